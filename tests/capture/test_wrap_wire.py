"""`wrap` at the wire: retries, token ids, bytes, streams that end badly, forks and exits. Runs on old SDKs, too."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

import odograph
from odograph.capture import exchange, scope, wrap
from odograph.capture.faults import faults
from tests.llm_server import Answer, LLMServer
from tests.waiting import cut_off

ROOT = Path(__file__).parent.parent.parent
HI: Any = [{"role": "user", "content": "hi"}]


def chat_client(server: LLMServer, **more: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + "/v1", api_key="sk-secret", **{"max_retries": 0, **more})


def at_once(client: Any) -> Any:
    """The SDK's pauses before it retries are not what is tested."""
    client._calculate_retry_timeout = lambda *_: 0.0
    return client


def in_env(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "ODOGRAPH_STRICT": "1", **more}


def test_equal_requests_of_several_runs_are_never_mixed(store: odograph.Store) -> None:
    """A group asks the same at once and its first attempts fail: each retry is found in the run that made it."""
    lock, failures = threading.Lock(), [10]

    def script(_: Any) -> Answer:
        with lock:
            failures[0] -= 1
            return Answer(status=500) if failures[0] >= 0 else Answer(text="ok", delay=0.005)

    async def agent(client: openai.AsyncOpenAI, number: int) -> str:
        async with store.record(task=number, group="g") as run:
            async with run.step():
                await client.chat.completions.create(model="m", messages=HI)
        return run.id

    async def main(url: str) -> list[str]:
        async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="x", max_retries=9) as client:
            odograph.wrap(at_once(client))
            return list(await asyncio.gather(*(agent(client, n) for n in range(8))))

    with LLMServer(script) as server:
        ids = asyncio.run(main(server.url))
    retries = 0
    for id in ids:
        (call,) = store.trajectory(id).llm_calls
        assert (call.text, call.record.error) == ("ok", None)
        retries += len((call.record.extra or {}).get("retries", []))
    assert retries == 10


@pytest.mark.parametrize("streams", [False, True])
def test_a_transport_that_answers_from_memory(store: odograph.Store, streams: bool) -> None:
    """Mocks of tests and caches give responses whose body was read already: such a call is on record, too, at once."""
    http = importlib.import_module(str(wrap._library(openai.OpenAI(api_key="x")._client)))
    piece = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "delta" if streams else "message": {"role": "assistant", "content": "from memory"},
    }

    def answered(request: Any) -> Any:
        if streams:
            event = {**piece, "choices": [choice]}
            return http.Response(
                200, text=f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n", headers={"content-type": "text/event-stream"}
            )
        return http.Response(200, json={**piece, "object": "chat.completion", "choices": [choice]})

    client = odograph.wrap(
        openai.OpenAI(api_key="x", http_client=openai.DefaultHttpxClient(transport=http.MockTransport(answered)))
    )
    with store.record(task="t") as run:
        found: Any = client.chat.completions.create(model="m", messages=HI, stream=streams)  # type: ignore[call-overload]
        said = [c.choices[0].delta.content for c in found] if streams else [found.choices[0].message.content]
    assert said == ["from memory"]
    (call,) = store.trajectory(run.id).llm_calls
    assert (call.text, call.error) == ("from memory", None)


def test_async_clients(store: odograph.Store) -> None:
    """Async clients of both SDKs, with their streaming helpers; an abandoned and a cancelled call are recorded as such."""

    async def main(url: str) -> str:
        claude = odograph.wrap(anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0))
        client = odograph.wrap(openai.AsyncOpenAI(base_url=url + "/v1", api_key="x", max_retries=0))
        async with store.record(task="x") as run, run.step():
            await claude.messages.create(model="c", max_tokens=9, messages=HI)
            async with claude.messages.stream(model="c", max_tokens=9, messages=HI) as stream:
                assert await stream.get_final_text() == "hello there"
            await client.responses.create(model="m", input="hi")
            async with client.responses.stream(model="m", input="hi") as events:
                async for _ in events:
                    pass
            opened = await client.chat.completions.create(model="m", messages=HI, stream=True)
            async for _ in opened:
                break
            await opened.close()
            slow = client.chat.completions.create(model="slow", messages=HI)
            await cut_off(slow, lambda: server.requests[-1][1]["model"] == "slow")
        await claude.close()
        await client.close()
        return run.id

    with LLMServer(lambda r: Answer(text="hello there", delay=60 if r["model"] == "slow" else 0.002)) as server:
        id = asyncio.run(main(server.url))
    calls = store.trajectory(id).llm_calls
    assert [c.text for c in calls[:4]] == ["hello there"] * 4
    assert [c.record.error for c in calls[:5]] == [None, None, None, None, "stream abandoned"]
    assert calls[5].record.error["type"].endswith("CancelledError")


def test_azure_and_clients_of_ones_own(store: odograph.Store) -> None:
    """Azure's paths, an HTTP client that the user brings, and what it mounts, are recorded."""
    http = __import__(openai.DefaultHttpxClient.__mro__[1].__module__.split(".")[0])
    with LLMServer([Answer(text="ok")]) as server:
        azure = openai.AzureOpenAI(azure_endpoint=server.url, api_key="x", api_version="2024-10-21", max_retries=0)
        mine = http.Client(mounts={"http://": http.HTTPTransport()})
        with store.record(task="x") as run, run.step():
            odograph.wrap(azure).chat.completions.create(model="m", messages=HI)
            with odograph.wrap(chat_client(server, http_client=mine)) as client:
                client.chat.completions.create(model="m", messages=HI)
    assert server.requests[0][0].startswith("/openai/deployments/m/chat/completions")
    assert [c.text for c in store.trajectory(run.id).llm_calls] == ["ok", "ok"]


def test_only_calls_of_a_model(store: odograph.Store) -> None:
    """Files, threads' messages and the cancelling of a response are none."""
    with LLMServer([Answer(extra={"data": []})]) as server:
        client = odograph.wrap(chat_client(server))
        with store.record(task="x") as run, run.step():
            client.post("/files", body={"purpose": "batch"}, cast_to=object)
            client.post("/threads/t/messages", body={"role": "user", "content": "x"}, cast_to=object)
            client.post("/responses/r/cancel", body={}, cast_to=object)
    assert len(server.requests) == 3
    assert store.trajectory(run.id).llm_calls == []


@pytest.mark.parametrize("encoding", [None, "gzip", "deflate", "br"])
@pytest.mark.parametrize("stream", [False, True])
def test_bytes(store: odograph.Store, encoding: str | None, stream: bool) -> None:
    """The agent gets what the server sent, byte for byte, compressed or not; the record holds the content, once."""
    if encoding == "br":
        pytest.importorskip("brotli")
    with LLMServer([Answer(text="wörld \u2028 " * 50, encoding=encoding)]) as server:
        client = odograph.wrap(chat_client(server))
        with store.record(task="x") as run, run.step():
            calls = client.chat.completions.with_streaming_response
            with calls.create(model="m", messages=HI, stream=stream) as response:
                got = b"".join(response.iter_bytes())
    assert got == server.responses[0]
    (call,) = store.trajectory(run.id).llm_calls
    assert call.record.error is None
    assert call.request == json.loads(server.bodies[0])
    if stream:
        assert call.events == [json.loads(line[6:]) for line in got.decode().split("\n\n") if line.startswith("data: {")]
    else:
        assert call.response == json.loads(got)
    assert call.text == "wörld \u2028 " * 50


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_a_compressed_stream_that_was_left_is_readable(store: odograph.Store, encoding: str) -> None:
    """What was read of a compressed stream before the agent left it is recorded as text."""
    if encoding == "br":
        pytest.importorskip("brotli")
    with LLMServer([Answer(text="x" * 400, delay=0.002, encoding=encoding)]) as server:
        client = odograph.wrap(chat_client(server))
        with store.record(task="x") as run, run.step():
            with client.chat.completions.create(model="m", messages=HI, stream=True) as stream:
                for number, _ in enumerate(stream):
                    if number == 5:
                        break
    (call,) = store.trajectory(run.id).llm_calls
    assert call.record.error == "stream abandoned"
    assert 0 < len(call.text) < 400


def test_streams_are_not_held_up(store: odograph.Store) -> None:
    """The agent gets each chunk when it comes: the server sends the second only after the first was seen."""
    gate = threading.Event()
    with LLMServer([Answer(text="abcdef", gate=gate)]) as server:
        client = odograph.wrap(chat_client(server))
        with store.record(task="x") as run, run.step():
            stream = client.chat.completions.create(model="m", messages=HI, stream=True)
            next(iter(stream))
            time.sleep(0.05)
            gate.set()
            for _ in stream:
                pass
    (call,) = store.trajectory(run.id).llm_calls
    assert (call.text, call.record.error) == ("abcdef", None)
    assert call.record.first_token < call.record.duration - 40_000_000


def test_a_stream_belongs_to_where_it_was_asked_for(
    store: odograph.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream is recorded where its request was made, wherever it is read: in another run, another thread, or outside."""
    monkeypatch.setenv("ODOGRAPH_STORE", str(tmp_path / "default"))
    monkeypatch.setattr("odograph.api._default", None)
    with LLMServer([Answer(text="ok")]) as server:
        client = odograph.wrap(chat_client(server))

        def ask() -> Any:
            return client.chat.completions.create(model="m", messages=HI, stream=True)

        outside = ask()
        with store.record(task="a") as first, first.step():
            inside = ask()
        with store.record(task="b") as second, second.step():
            list(outside)
            thread = threading.Thread(target=list, args=(inside,))
            thread.start()
            thread.join()
    assert [c.text for c in store.trajectory(first.id).llm_calls] == ["ok"]
    assert store.trajectory(second.id).llm_calls == []
    with odograph.open() as default:
        assert [[c.text for c in t.llm_calls] for t in default.trajectories()] == [["ok"]]


def test_a_stream_is_on_record_before_its_last_event_is_seen(store: odograph.Store) -> None:
    """When the agent has the end of an answer, its call is recorded: whatever the agent does next, even if it is killed."""
    with LLMServer([Answer(text="whole answer")]) as server:
        claude = odograph.wrap(anthropic.Anthropic(base_url=server.url, api_key="x", max_retries=0))
        with store.record(task="x") as run, run.step():
            for event in claude.messages.create(model="m", max_tokens=9, messages=HI, stream=True):
                if event.type == "message_stop":
                    (call,) = store.trajectory(run.id).llm_calls
                    assert (call.text, call.record.error) == ("whole answer", None)
    assert len(store.trajectory(run.id).llm_calls) == 1


@pytest.mark.parametrize(
    ("dialect", "raw", "error", "text"),
    [
        (
            "chat",
            b'data: {"choices": [{"index": 0, "delta": {"content": "so"}}]}\n\ndata: {"error": {"message": "x"}}\n\n',
            "x",
            "so",
        ),
        ("chat", b'event: error\ndata: {"message": "x"}\n\n', "x", ""),
        ("responses", b'event: error\ndata: {"type": "error", "message": "x"}\n\n', "x", ""),
        (
            "responses",
            b'data: {"type": "response.failed", "response": {"status": "failed", "error": {"message": "x"}, "output": []}}\n\n',
            "x",
            "",
        ),
        (
            "messages",
            b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}\n\n',
            "x",
            "",
        ),
    ],
)
def test_errors_in_a_stream(store: odograph.Store, dialect: str, raw: bytes, error: str, text: str) -> None:
    """An error that a backend sends after it began to answer is the call's error; what came before it is kept."""
    with LLMServer([Answer(raw=raw)]) as server:
        client = odograph.wrap(chat_client(server))
        claude = odograph.wrap(anthropic.Anthropic(base_url=server.url, api_key="x", max_retries=0))
        with store.record(task="x") as run, run.step():
            try:
                if dialect == "chat":
                    list(client.chat.completions.create(model="m", messages=HI, stream=True))
                elif dialect == "responses":
                    list(client.responses.create(model="m", input="hi", stream=True))
                else:
                    list(claude.messages.create(model="m", max_tokens=9, messages=HI, stream=True))
            except (openai.APIError, anthropic.APIError):
                pass
    (call,) = store.trajectory(run.id).llm_calls
    assert call.record.error["message"] == error
    assert call.text == text
    assert call.record.status_code == 200


def test_token_ids_of_sglang(store: odograph.Store) -> None:
    """SGLang refuses the fields for a stream: the stream goes on without them, once asked, and other calls are still asked."""

    def script(request: dict[str, Any]) -> Answer:
        asked = any(name.startswith("return_") for name in request)
        return Answer(status=400, text="not with stream=true") if asked and request.get("stream") else Answer(text="abc")

    with LLMServer(script) as server:
        client = odograph.wrap(chat_client(server), tokens=True)
        with store.record(task="x") as run, run.step():
            with pytest.warns(RuntimeWarning, match="not with stream=true"):
                list(client.chat.completions.create(model="m", messages=HI, stream=True, temperature=0.0))
            list(client.chat.completions.create(model="m", messages=HI, stream=True))
            client.chat.completions.create(model="m", messages=HI)
    refused, plain, second, third = (r for _, r in server.requests)
    assert refused == {**plain, "return_token_ids": True, "logprobs": True}
    assert server.bodies[0].endswith(server.bodies[1][1:])  # what the SDK wrote stays as it is
    assert "return_token_ids" not in second
    assert third["return_token_ids"] is third["return_prompt_token_ids"] is third["return_meta_info"] is True
    calls = store.trajectory(run.id).llm_calls
    assert [(c.text, c.record.error) for c in calls] == [("abc", None)] * 3
    assert [c.request for c in calls] == [plain, second, third]
    (attempt,) = calls[0].record.extra["retries"]
    assert (attempt["status_code"], attempt["error"]["error"]["message"]) == (400, "not with stream=true")


def test_token_ids_that_a_backend_does_not_know(store: odograph.Store) -> None:
    """OpenAI's own API refuses unknown fields: the agent never sees that; a request that is bad in itself fails as ever."""

    def script(request: dict[str, Any]) -> Answer:
        asked = any(name.startswith("return_") for name in request)
        return Answer(status=400, text="unknown parameter") if asked or request["model"] == "bad" else Answer(text="abc")

    async def main(url: str) -> str:
        async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="x", max_retries=0) as client:
            odograph.wrap(client, tokens=True)
            async with store.record(task="x") as run, run.step():
                with pytest.raises(openai.BadRequestError):
                    await client.chat.completions.create(model="bad", messages=HI)
                with pytest.warns(RuntimeWarning, match="unknown parameter"):
                    await client.chat.completions.create(model="m", messages=HI)
                await client.chat.completions.create(model="m", messages=HI)
        return run.id

    began = time.perf_counter_ns()
    with LLMServer(script) as server:
        id = asyncio.run(main(server.url))
    waited = time.perf_counter_ns() - began
    calls = store.trajectory(id).llm_calls
    assert [(c.text, c.record.status_code) for c in calls] == [("", 400), ("abc", 200), ("abc", 200)]
    assert len(server.requests) == 5
    (refused,) = calls[1].record.extra["retries"]
    assert 0 < refused["duration"] < waited and refused["started"] < calls[1].record.started


def test_a_warning_that_is_an_error_is_not_the_agents(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a program makes warnings errors, a backend that refuses token ids costs no call, and is not asked again."""
    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    before = faults.count
    script = [Answer(status=400, text="unknown parameter"), Answer(text="one"), Answer(text="two")]
    with LLMServer(script) as server, store.record(task="x") as run, warnings.catch_warnings():
        client = odograph.wrap(odograph.wrap(chat_client(server)), tokens=True)  # a second time asks for more
        warnings.simplefilter("error")
        for _ in range(2):
            client.chat.completions.create(model="m", messages=HI)
    assert [c.text for c in store.trajectory(run.id).llm_calls] == ["one", "two"]
    assert ["logprobs" in body for _, body in server.requests] == [True, False, False]
    assert faults.count == before + 1


def test_what_the_agent_asks_for_itself_stays(store: odograph.Store) -> None:
    """`tokens=True` overrules nothing that the agent says."""
    with LLMServer([Answer(text="abc")]) as server:
        client = odograph.wrap(chat_client(server), tokens=True)
        with store.record(task="x") as run, run.step():
            client.chat.completions.create(
                model="m", messages=HI, logprobs=False, extra_body={"return_token_ids": False, "return_meta_info": None}
            )
    request = server.requests[0][1]
    assert (request["logprobs"], request["return_token_ids"], request["return_meta_info"]) == (False, False, None)
    assert store.trajectory(run.id).llm_calls[0].request == request


@pytest.mark.parametrize("body", [{}, {"model": "m"}])
def test_a_body_that_is_no_request_of_a_model_is_sent_as_it_is(store: odograph.Store, body: Any) -> None:
    """`tokens=True` adds its fields to an object that has some; what is none goes out byte for byte."""
    with LLMServer([Answer(), Answer()]) as server:
        for client in (chat_client(server), odograph.wrap(chat_client(server), tokens=True)):
            with store.record(task="x"):
                client.post("/chat/completions", body=body, cast_to=object)
    bare, asked = server.bodies
    assert asked == bare if not body else json.loads(asked).keys() > body.keys()


def test_faults_in_capture_are_not_the_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where recording fails, the agent's call goes on; the fault is counted."""

    def broken(_: Any) -> Any:
        raise OSError("no store")

    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    monkeypatch.setattr(scope, "outside", broken)
    before = faults.count
    with LLMServer([Answer(text="ok")]) as server:
        client = odograph.wrap(chat_client(server))
        answer = client.chat.completions.create(model="m", messages=HI)
        chunks = list(client.chat.completions.create(model="m", messages=HI, stream=True))
    assert answer.choices[0].message.content == "ok"
    assert len(chunks) > 2
    assert faults.count == before + 2


def test_a_fault_in_asking_for_tokens_is_not_the_agents(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request goes out as the agent made it, and the call is recorded."""

    def broken(_: Any) -> Any:
        raise OSError("no fields")

    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    monkeypatch.setattr(wrap, "encode", broken)
    before = faults.count
    with LLMServer([Answer(text="ok")]) as server, store.record(task="x") as run, run.step():
        answer = odograph.wrap(chat_client(server), tokens=True).chat.completions.create(model="m", messages=HI)
    assert answer.choices[0].message.content == store.trajectory(run.id).llm_calls[0].text == "ok"
    assert faults.count == before + 1


def test_a_fork_leaves_the_call_to_its_parent(store: odograph.Store) -> None:
    """A child process that inherits an open stream, and closes it, records nothing of it: the call is the parent's."""
    with LLMServer([Answer(text="abcdef", delay=0.01)]) as server:
        client = odograph.wrap(chat_client(server))
        with store.record(task="x") as run, run.step():
            stream = client.chat.completions.create(model="m", messages=HI, stream=True)
            next(iter(stream))
            child = os.fork()
            if child == 0:
                try:
                    stream.close()
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            list(stream)
    (call,) = store.trajectory(run.id).llm_calls
    assert (call.text, call.record.error) == ("abcdef", None)


def test_a_fork_in_the_middle_of_anothers_call(store: odograph.Store) -> None:
    """Another thread may be at the list of open calls when a worker is forked: the worker's own calls are not held up."""
    with LLMServer([Answer(text="ok")]) as server, store.record(task="x") as run, run.step():
        with exchange._lock:  # as if by another thread: the child has none of the parent's
            child = os.fork()
            if child == 0:
                signal.alarm(30)  # a call that waits for ever ends the child
                try:
                    odograph.wrap(chat_client(server)).chat.completions.create(model="m", messages=HI)
                    os._exit(0)
                finally:
                    os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
    assert [c.text for c in store.trajectory(run.id).llm_calls] == ["ok"]


def test_a_program_that_ends_in_the_middle(tmp_path: Path) -> None:
    """What is under way when the program ends is recorded, quietly: an open stream with what was read of it, a call in a
    daemon thread as asked and not answered. The journal is synced to disk behind it."""
    program = """
import atexit, os, sys, threading
done = []
atexit.register(lambda: print(done[-1]))  # the first one that is registered is the last one that is called
for name in ("write", "fdatasync"):
    setattr(os, name, lambda *args, name=name, real=getattr(os, name): (done.append(name), real(*args))[1])
import openai, odograph
client = odograph.wrap(openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="x"))
with odograph.open(sys.argv[2]).record(task="x") as run:
    ask = odograph.bind(lambda: client.chat.completions.create(model="slow", messages=[]))
    threading.Thread(target=ask, daemon=True).start()
    stream = client.chat.completions.create(model="m", messages=[], stream=True)
    for _ in range(4):
        next(stream)
print(run.id)
"""
    asked = threading.Event()

    def model(request: dict[str, Any]) -> Answer:
        if request["model"] == "slow":
            asked.set()
            return Answer(delay=3600)
        asked.wait()
        return Answer(text="abcdef" * 50, delay=0.01)

    with LLMServer(model) as server:
        args = [sys.executable, "-c", program, server.url, str(tmp_path / "store")]
        done = subprocess.run(args, capture_output=True, text=True, env=in_env())
    assert (done.returncode, done.stderr) == (0, "")
    id, last = done.stdout.split()
    assert last == "fdatasync"
    with odograph.open(tmp_path / "store") as store:
        calls = {c.model: c for c in store.trajectory(id).llm_calls}
    assert (calls["slow"].record.error, calls["slow"].response) == ("request abandoned", None)
    assert calls["m"].record.error == "stream abandoned"
    assert calls["m"].text.startswith("ab")


def test_importing_is_cheap() -> None:
    """`import odograph.capture.wrap` brings no SDK, no HTTP library and no asyncio."""
    program = "import sys, odograph.capture.wrap; print([m for m in ('openai', 'anthropic', 'httpx', 'httpx2', 'asyncio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=in_env(), check=True)
    assert done.stdout.strip() == "[]"
