"""What becomes of one request and its response: of streams that end at once or are left, of answers that are waited for, of dialects
that fail."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

import odograph
from odograph import dialects
from odograph.capture import exchange
from odograph.capture.faults import faults
from tests.capture.test_wrap_calls import CHAT, HI, RESPONSE, chunk, client
from tests.http_server import JSON, SSE, event, serving

ASKED = {"model": "m", "messages": HI}


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], httpx.Client]]:
    """A client that speaks a stranger's dialect of which one function fails."""
    monkeypatch.setenv("ODOGRAPH_STRICT", "0")
    monkeypatch.setattr(dialects, "_found", {})
    monkeypatch.setattr(dialects, "_asked", {})
    own = tmp_path / "own.py"

    def made(member: str) -> httpx.Client:
        own.write_text(f"NAME, PATHS = 'x.failing', ('/failing',)\ndef {member}(_):\n    raise KeyError('boo')\n")
        return odograph.wrap(httpx.Client(), dialect=str(own))

    yield made
    dialects.get.cache_clear()
    dialects.resent.cache_clear()


def test_a_dialect_that_fails_costs_its_view_and_no_call(store: odograph.Store, failing: Callable[[str], httpx.Client]) -> None:
    """The agent gets its stream, the call is on record with the events and what failed, and each failure is counted."""
    said = event({"said": "a"})
    before = faults.count
    with serving(lambda *_: (200, SSE, said)) as url, store.record(task="t") as run, failing("ending") as one:
        assert one.post(url + "/failing", json=ASKED).content == said
    (call,) = store.trajectory(run.id).llm_calls
    assert (call.events, call.request) == ([{"said": "a"}], ASKED)
    assert "failed in ending()" in call.error
    assert faults.count == before + 2  # as the event passed, and as the call was recorded


def test_a_fault_at_the_end_of_a_call_is_counted(store: odograph.Store, failing: Callable[[str], httpx.Client]) -> None:
    """Of a call that ends, and of a stream that is open when its run ends: the agent's program and the run go on."""
    before = faults.count
    with serving(lambda *_: (200, SSE, event({"said": "a"}))) as url, failing("later") as one:
        with store.record(task="t") as run:
            one.post(url + "/failing", json=ASKED)
            assert faults.count == before + 1
            left = one.send(one.build_request("POST", url + "/failing", json=ASKED), stream=True)
            next(left.iter_raw())
        assert faults.count == before + 2
        left.close()
    t = store.trajectory(run.id)
    assert (t.status, [len(c.events) for c in t.llm_calls]) == ("completed", [1, 1])


@pytest.mark.parametrize(("member", "failures"), [("framing", 1), ("speaks", 2)])
def test_a_fault_before_a_call_is_recorded_is_counted(
    store: odograph.Store, failing: Callable[[str], httpx.Client], member: str, failures: int
) -> None:
    """Where Odograph can't tell whether a request is a call, or what its response is: the agent gets the answer."""
    before = faults.count
    got: list[bytes] = []

    def answer(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        got.append(body)
        return 200, JSON, CHAT

    with serving(answer) as url, store.record(task="t"), failing(member) as one:
        assert one.post(url + "/failing", content=iter([b"{}"]), headers={"content-length": "2"}).json() == CHAT
    assert (got, faults.count) == ([b"{}"], before + failures)


def test_an_answer_that_is_a_list_is_whole(store: odograph.Store) -> None:
    """Some servers answer with a list of objects: that is no error."""
    said = json.dumps([CHAT, CHAT]).encode()
    with serving(lambda *_: (200, JSON, said)) as url, store.record(task="t") as run, odograph.wrap(httpx.Client()) as one:
        one.post(url + "/v1/chat/completions", json=ASKED)
    (call,) = store.trajectory(run.id).llm_calls
    assert (call.record.response, call.error) == ([CHAT, CHAT], None)


def test_a_stream_whose_first_event_is_its_last_is_on_record_at_once(store: odograph.Store) -> None:
    """An error in the place of an answer: the call is on record when the agent has the event, whatever becomes of the agent then."""
    failed = event({"error": {"message": "x"}}, "error")
    with serving(lambda *_: (200, SSE, [failed])) as url, store.record(task="t") as run, odograph.wrap(httpx.Client()) as one:
        with one.stream("POST", url + "/v1/chat/completions", json={**ASKED, "stream": True}) as response:
            for piece in response.iter_raw():
                assert piece == failed
                assert [c.error["message"] for c in store.trajectory(run.id).llm_calls] == ["x"]


def test_an_async_stream_that_ends_in_the_middle_says_so(store: odograph.Store) -> None:
    """The server closed it, and not the agent."""

    async def read(url: str) -> None:
        async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="x", max_retries=0) as bare:
            async for _ in await odograph.wrap(bare).chat.completions.create(model="m", messages=HI, stream=True):
                pass

    with serving(lambda *_: (200, SSE, [chunk({"content": "half an"})])) as url, store.record(task="t") as run:
        asyncio.run(read(url))
    assert [c.error for c in store.trajectory(run.id).llm_calls] == ["the stream ended in the middle"]


def test_a_stream_that_its_agent_leaves_says_so(store: odograph.Store) -> None:
    """The agent left it, and not the server. A stream that is closed is on record at once; one that is dropped, when it is gone."""
    errors = ["stream abandoned"]

    def recorded() -> list[Any]:
        return [c.error for c in store.trajectory(run.id).llm_calls]

    async def leave(url: str) -> None:
        async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="x", max_retries=0) as bare:
            one: Any = odograph.wrap(bare).chat.completions
            async with await one.create(model="m", messages=HI, stream=True) as left:
                await anext(aiter(left))
            assert recorded() == errors * 2
            await anext(aiter(await one.create(model="m", messages=HI, stream=True)))

    chunks = [chunk({"content": c * 200_000}) for c in "abcd"]
    with serving(lambda *_: (200, SSE, chunks)) as url, store.record(task="t") as run:
        with client(url).chat.completions.create(model="m", messages=HI, stream=True) as left:
            next(iter(left))
        assert recorded() == errors
        asyncio.run(leave(url))
        gc.collect()
        assert recorded() == errors * 3


@pytest.mark.parametrize("kind", [SSE, {"content-type": "text/plain"}])
def test_an_event_that_the_end_of_its_stream_cuts_off_counts(store: odograph.Store, kind: dict[str, str]) -> None:
    """Some servers end a stream without the empty line behind its last event, and some don't say that it is one."""
    said = (chunk({"content": "so"}) + chunk({}, "stop")).rstrip()
    with serving(lambda *_: (200, kind, said)) as url, store.record(task="t") as run, odograph.wrap(httpx.Client()) as one:
        one.post(url + "/v1/chat/completions", json={**ASKED, "stream": True})
    (call,) = store.trajectory(run.id).llm_calls
    assert (call.text, call.finish_reason, call.error, len(call.events)) == ("so", "stop", None, 2)


def test_a_stream_that_is_left_and_not_read_on_is_recorded_once(store: odograph.Store) -> None:
    """Its run's end records it. That it is closed later brings nothing."""
    chunks = [chunk({"content": c * 200_000}) for c in "abcd"]
    with serving(lambda *_: (200, SSE, chunks)) as url:
        with store.record(task="t") as run, run.step():
            left = client(url).chat.completions.create(model="m", messages=HI, stream=True)
            next(iter(left))
        written = store.health()["written"]
        left.close()
        assert store.health()["written"] == written
    assert len(store.trajectory(run.id).llm_calls) == 1


def test_a_poll_that_brings_no_answer_is_no_record(store: odograph.Store) -> None:
    """An answer that is not there yet, and a poll that failed, change nothing of the call: it has no error and waits. Its time is
    that from the question to the answer."""
    polls: list[Any] = [(500, {}), (200, "in_progress"), (200, "completed"), (200, "completed")]

    def answer(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        status, said = polls.pop(0) if method == "GET" else (200, "queued")
        return status, JSON, RESPONSE if said == "completed" else {**RESPONSE, "status": said, "output": []}

    with serving(answer) as url, store.record(task="t") as run:
        one, began = client(url), time.time_ns()
        id = one.responses.create(model="m", input="q", background=True).id
        asked, written = time.time_ns(), store.health()["written"]
        with pytest.raises(openai.InternalServerError):
            one.responses.retrieve(id)
        one.responses.retrieve(id)
        assert store.health()["written"] == written
        fetched = time.time_ns()
        one.responses.retrieve(id)
        ended, written = time.time_ns(), store.health()["written"]
        one.responses.retrieve(id)  # who has it may ask again
        assert store.health()["written"] == written
    (call,) = store.trajectory(run.id).llm_calls
    assert (call.text, call.error, polls) == ("yo", None, [])
    assert began <= call.record.started <= asked
    assert fetched <= call.record.started + call.record.duration <= ended


def test_the_oldest_that_wait_are_forgotten() -> None:
    """Who asks for answers and never fetches them, of one server or of ever new ones, loses the oldest."""
    later = exchange.Later()
    for n in range(exchange._MOST_LATER + 1):
        later.put(str(n), exchange.Asked("/", b"", 0, None, str(n)))
    assert later.get("0") is None and later.get("1") is not None
    exchange._laters.clear()
    for n in range(exchange._MOST_SERVERS + 1):
        exchange.later_at(("test", n))
    assert ("test", 0) not in exchange._laters and ("test", 1) in exchange._laters


def test_a_call_that_is_over_is_held_by_nobody(store: odograph.Store) -> None:
    """A program may keep its responses: the end of a run does not look at each call that ever was."""
    before = set(exchange._unfinished)
    with serving(lambda *_: (200, JSON, CHAT)) as url, store.record(task="t"):
        one = client(url)
        kept = [one.chat.completions.with_raw_response.create(model="m", messages=HI) for _ in range(2)]
        assert set(exchange._unfinished) <= before
    assert json.loads(kept[0].content) == CHAT


def test_a_run_that_is_over_holds_no_history(store: odograph.Store) -> None:
    """A program may keep its runs: what they sent is not kept with them."""
    with serving(lambda *_: (200, JSON, CHAT)) as url, store.record(task="t") as run:
        client(url).chat.completions.create(model="m", messages=HI)
        assert run._recorder.sent and run._recorder._packer is not None
    assert not run._recorder.sent and run._recorder._packer is None


def begun(method: str, path: str, later: exchange.Later) -> exchange.Exchange | None:
    return exchange.begun(method, path, {}, b'{"model": "m", "input": "q"}', lambda data, _: data, later)


def test_an_answer_is_fetched_from_the_server_that_streams_it(store: odograph.Store) -> None:
    """What another server streams under the same id goes on, and so does a request that has no answer yet."""
    here, there = exchange.Later(), exchange.Later()
    queued = {"type": "response.created", "response": {**RESPONSE, "status": "queued", "output": []}}
    with store.record(task="t") as run:
        waits, streams = (begun("POST", "/v1/responses", here) for _ in range(2))
        assert waits is not None and streams is not None
        streams.answered(200, SSE)
        streams.chunk(event(queued))
        assert begun("GET", "/v1/responses/r1", there) is None
        assert not store.trajectory(run.id).llm_calls
        assert begun("GET", "/v1/responses/r1", here) is not None
        assert [c.record.response["id"] for c in store.trajectory(run.id).llm_calls] == ["r1"]
        waits.drop()


def test_a_request_that_is_dropped_is_over_and_no_call(store: odograph.Store) -> None:
    """Whoever ends it afterwards."""
    with store.record(task="t") as run:
        one = begun("POST", "/v1/responses", exchange.Later())
        assert one is not None and not one.over
        one.drop()
        assert one.over
        one.end()
    assert not store.trajectory(run.id).llm_calls


def test_a_body_that_is_read_no_further_is_open(store: odograph.Store) -> None:
    """Who reads a body ends at any piece of it; the call ends with the body, and not with its reader."""

    async def pieces() -> AsyncIterator[bytes]:
        yield chunk({"content": "a"})
        yield chunk({}, "stop")

    async def read(one: exchange.Exchange) -> None:
        body: Any = one.read_async(pieces())
        await anext(body)
        await body.aclose()

    with store.record(task="t") as run:
        for number in range(2):
            one = begun("POST", "/v1/chat/completions", exchange.Later())
            assert one is not None
            one.answered(200, SSE)
            if number:
                asyncio.run(read(one))
            else:
                body: Any = one.read([chunk({"content": "a"}), chunk({}, "stop")])
                next(body)
                body.close()
            assert not one.over
            one.finish()
        assert [c.error for c in store.trajectory(run.id).llm_calls] == ["stream abandoned"] * 2
