"""Responses over a WebSocket: what is a call, when it is on record, and what passes that is none."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest

import odograph
from odograph.capture import sockets

server = pytest.importorskip("websockets.sync.server")


@contextmanager
def serving(answer: Callable[[dict[str, Any]], list[Any]]) -> Iterator[dict[str, str]]:
    """The settings of a client of a server that answers each message with some events."""

    def talk(socket: Any) -> None:
        for sent in socket:
            for event in answer(json.loads(sent)):
                socket.send(event if isinstance(event, str | bytes) else json.dumps(event))

    with server.serve(talk, "127.0.0.1", 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        url = f"127.0.0.1:{serving.socket.getsockname()[1]}/v1"
        if not hasattr(openai.OpenAI(api_key="x").responses, "connect"):
            pytest.skip("this openai SDK has no WebSockets")
        yield {"base_url": f"http://{url}", "websocket_base_url": f"ws://{url}", "api_key": "x"}
        serving.shutdown()


@contextmanager
def connected(answer: Callable[[dict[str, Any]], list[Any]]) -> Iterator[Any]:
    """A connection of a wrapped client."""
    with serving(answer) as settings, odograph.wrap(openai.OpenAI(**settings)).responses.connect() as socket:  # type: ignore[arg-type]
        yield socket


def begun(id: str) -> dict[str, Any]:
    return {"type": "response.created", "response": {"id": id, "object": "response", "status": "in_progress", "output": []}}


def done(id: str, text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
    return {
        "type": "response.completed",
        "response": {"id": id, "object": "response", "status": "completed", "output": [message]},
    }


def test_an_error_in_the_place_of_an_answer_ends_the_call(store: odograph.Store) -> None:
    """It is on record at once with the error, and the next request is a call of its own."""
    answers = iter([[{"type": "error", "code": "busy", "message": "later"}], [begun("r"), done("r", "yo")]])
    with store.record(task="x") as run, connected(lambda _: next(answers)) as socket:
        socket.response.create(model="m", input="q")
        assert socket.recv().type == "error"
        (failed,) = store.trajectory(run.id).llm_calls
        assert failed.error["message"] == "later"
        socket.response.create(model="m", input="q")
        assert [socket.recv().type for _ in range(2)] == ["response.created", "response.completed"]
        assert [c.text for c in store.trajectory(run.id).llm_calls] == ["", "yo"]


def test_a_socket_is_closed_with_its_client(store: odograph.Store) -> None:
    """What an async client gets is on record as it comes, and closing closes the socket below, of both kinds of clients."""

    def answer(sent: dict[str, Any]) -> list[Any]:
        return [begun("r"), done("r", "yo")]

    async def talk(settings: Any) -> None:
        socket = await odograph.wrap(openai.AsyncOpenAI(**settings)).responses.connect().enter()
        await socket.response.create(model="m", input="q")
        assert [(await socket.recv()).type for _ in range(2)] == ["response.created", "response.completed"]
        assert [(c.text, c.error) for c in store.trajectory(run.id).llm_calls] == [("yo", None)]
        await socket.close()
        assert socket._connection.state.name == "CLOSED"

    with store.record(task="x") as run, serving(answer) as settings:
        asyncio.run(talk(settings))
    with connected(answer) as socket:
        socket.close()
        assert socket._connection.protocol.state.name == "CLOSED"


def test_the_sockets_of_clients_that_nobody_wrapped(store: odograph.Store) -> None:
    """While everything is recorded they are, and afterwards they are not."""
    with store.record(task="x") as run, serving(lambda _: [begun("r"), done("r", "yo")]) as settings:
        client = openai.OpenAI(**settings)  # type: ignore[arg-type]

        def ask() -> None:
            with client.responses.connect() as socket:
                socket.response.create(model="m", input="q")
                assert [socket.recv().type for _ in range(2)] == ["response.created", "response.completed"]

        odograph.instrument()
        try:
            ask()
        finally:
            odograph.uninstrument()
        ask()
    assert [c.text for c in store.trajectory(run.id).llm_calls] == ["yo"]


def test_a_history_is_kept_for_a_hundred_answers(store: odograph.Store) -> None:
    """A request that goes on from a known answer holds its history; of an older one only what was sent."""
    calls = sockets.Calls()
    asked = [{"input": f"q{n}"} for n in range(101)] + [{"input": "on", "previous_response_id": f"r{n}"} for n in (0, 2)]
    with store.record(task="x") as run:
        for one in asked:
            calls.sent(json.dumps({"type": "response.create", "model": "m", **one}))
            assert calls.running
            calls.got(json.dumps(done("r" + one["input"][1:], "yo")))
            assert not calls.running
    found = [[m["content"] for m in c.messages] for c in store.trajectory(run.id).llm_calls[-2:]]
    assert found == [["on"], ["q2", "yo", "on"]]


def test_what_is_only_sent_ahead_is_no_call_of_a_run_that_ends(store: odograph.Store) -> None:
    """A history that is sent before the question, and has no answer yet when its run ends, is on no record. A call is."""
    with connected(lambda sent: [begun(sent["input"])]) as socket, store.record(task="x") as run:
        for asked in ({"input": "ahead", "generate": False}, {"input": "q"}):
            socket.send({"type": "response.create", "model": "m", **asked})
            socket.recv()
        run.finish()
        assert [c.messages[0]["content"] for c in store.trajectory(run.id).llm_calls] == ["q"]
    assert len(store.trajectory(run.id).llm_calls) == 1


def test_a_message_that_nobody_can_send_is_a_fault_and_the_sockets_own_error(
    store: odograph.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is neither text nor bytes: the socket says so, as without Odograph. What comes behind it is recorded."""
    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    before = store.health()["faults"]
    with store.record(task="x") as run, connected(lambda _: []) as socket:
        with pytest.raises(TypeError, match="data"):
            socket._connection.send(object())
        assert store.health()["faults"] == before + 1
        calls = sockets.Calls()
        calls.sent(json.dumps({"type": "response.create", "model": "m", "input": "q"}))
        calls.got(object())  # of another socket, which gives what nobody knows
        assert store.health()["faults"] == before + 2
        calls.got(json.dumps(done("r", "yo")))
    assert [c.text for c in store.trajectory(run.id).llm_calls] == ["yo"]


def test_the_sockets_of_an_sdk_that_lets_nobody_in_are_counted() -> None:
    """An older SDK opens its sockets in one piece: the program goes on, and is told once for each. A still older one has none."""

    class Manager:
        pass

    before, one = sockets.faults.faults.unrecorded, Manager()
    with pytest.warns(RuntimeWarning, match="newer versions can be recorded"):
        assert sockets.opening(one) is one
    assert sockets.faults.faults.unrecorded == before + 1
    older = Manager()
    assert sockets.record(older) is sockets.count(older) is older and not vars(older)
