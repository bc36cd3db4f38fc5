"""`wrap`: which calls are on record, and as what: other endpoints, redirects, answers fetched later, streams that end early."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import anthropic
import httpx
import openai
import pytest

import odograph
from tests.http_server import JSON, SSE, event, serving

HI: Any = [{"role": "user", "content": "hi"}]
CHAT = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "yo"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}  # fmt: skip
RESPONSE = {"id": "r1", "object": "response", "created_at": 1, "status": "completed", "model": "m", "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "output": [{"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "yo", "annotations": []}]}], "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}}  # fmt: skip
CLAUDE = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [{"type": "text", "text": "yo"}], "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip


def client(url: str, **more: Any) -> openai.OpenAI:
    return odograph.wrap(openai.OpenAI(base_url=url + "/v1", api_key="x", max_retries=0), **more)


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


def streamed(store: odograph.Store, chunks: list[bytes]) -> Any:
    """The call of a stream of chat completions that is read to its end."""
    with serving(lambda *_: (200, SSE, chunks)) as url, store.record(task="t") as run:
        for _ in client(url).chat.completions.create(model="m", messages=HI, stream=True):
            pass
    (call,) = store.trajectory(run.id).llm_calls
    return call


def test_the_times_of_a_call_lie_within_what_the_agent_waited(store: odograph.Store) -> None:
    """A call began, gave its first token and ended between the agent's question and its answer, in this order."""
    before = time.time_ns()
    clock = time.perf_counter_ns()
    record = streamed(store, [chunk({"content": "yo"}), chunk({}, "stop"), event("[DONE]")]).record
    took = time.perf_counter_ns() - clock
    assert before <= record.started <= time.time_ns()
    assert 0 < record.first_token <= record.duration <= took


def test_completions_and_their_tokens(store: odograph.Store) -> None:
    """Completions are recorded; with tokens=True ids and logprobs are asked for, in what way the request is sent."""
    asked: list[dict[str, Any]] = []

    def answer(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        asked.append(json.loads(body))
        choice: dict[str, Any] = {
            "index": 0,
            "text": "ab",
            "finish_reason": "stop",
            "token_ids": [8, 9],
            "prompt_token_ids": [1, 2],
        }
        choice["logprobs"] = {"tokens": ["a", "b"], "token_logprobs": [-0.5, -0.25]}
        whole = {"id": "x", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
        return (200, SSE, [event(whole), event("[DONE]")]) if asked[-1].get("stream") else (200, JSON, whole)

    with serving(answer) as url, store.record(task="t") as run:
        one = client(url, tokens=True)
        one.completions.create(model="m", prompt=[1, 2])
        list(one.completions.create(model="m", prompt=[1, 2], stream=True))
        one.completions.create(model="m", prompt="text", logprobs=3)
    calls = store.trajectory(run.id).llm_calls
    for call in calls:
        (choice,) = call.choices
        assert (call.prompt_token_ids, choice.token_ids, choice.logprobs, call.error) == ([1, 2], [8, 9], [-0.5, -0.25], None)
    assert [(a["return_token_ids"], a["logprobs"]) for a in asked] == [(True, 0), (True, 0), (True, 3)]
    assert calls[2].messages == [{"role": "user", "content": "text"}]


def test_other_endpoints_have_a_purpose(store: odograph.Store) -> None:
    """Embeddings, images and compaction are on record, with a purpose of their own, so that nobody trains on them."""
    vectors = {"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}], "usage": {"prompt_tokens": 4, "total_tokens": 4}}  # fmt: skip

    def answer(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        if "images" in path:
            return 200, JSON, {"created": 1, "data": [{"b64_json": "AAAA"}]}
        return (
            200,
            JSON,
            vectors if "embed" in path else {"id": "x", "object": "response.compaction", "created_at": 1, "output": []},
        )

    with serving(answer) as url, store.record(task="t") as run:
        one = client(url)
        one.embeddings.create(model="m", input=["q", "r"])
        one.images.generate(model="m", prompt="a cat")
        one.images.edit(model="m", prompt="a cat", image=b"\x89PNG")
        one.post("/responses/compact", body={"model": "m", "input": "q"}, cast_to=object)  # older SDKs have no method for it
    calls = store.trajectory(run.id).llm_calls
    assert [(c.purpose, c.error) for c in calls] == [("embed", None), ("image", None), ("image", None), ("compact", None)]
    assert [m["content"] for m in calls[0].messages] == ["q", "r"] and calls[0].prompt_tokens == 4
    assert calls[1].messages == [{"role": "user", "content": "a cat"}]
    assert odograph.samples([store.trajectory(run.id)]).report.trained == 0


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_is_one_call(store: odograph.Store, status: int) -> None:
    """A call that a gateway redirects is one call with its answer; where it was sent first is among its attempts."""

    def answer(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        moved = path.startswith("/old")
        return (status, {"location": path.replace("/old", "/new")}, b"") if moved else (200, JSON, CHAT)

    with serving(answer) as url, store.record(task="t") as run:
        client(url + "/old").chat.completions.create(model="m", messages=HI)
        client(url).chat.completions.create(model="m", messages=HI)
    first, second = store.trajectory(run.id).llm_calls
    assert [(c.text, c.error) for c in (first, second)] == [("yo", None)] * 2
    assert [r["status_code"] for r in first.extra["retries"]] == [status] and second.extra is None


def test_a_redirect_without_an_end(store: odograph.Store) -> None:
    """A call that is redirected until its client gives up is one call; who asks the same in the next run has a call there."""

    def answer(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        return (307, {"location": path}, b"") if path.startswith("/loop") else (200, JSON, CHAT)

    runs = []
    with serving(answer) as url:
        for base in (url + "/loop", url):
            with store.record(task="t") as run, suppress(openai.APIConnectionError):
                client(base).chat.completions.create(model="m", messages=HI)
            runs.append(run.id)
    assert [[(c.text, c.error) for c in store.trajectory(id).llm_calls] for id in runs] == [[("", "HTTP 307")], [("yo", None)]]


def test_a_body_that_is_no_json(store: odograph.Store) -> None:
    """An answer that says 200 and is no JSON, as one that a gateway cut or left out, is an error, and is kept as it came."""
    bodies = [b'{"id": "x", "choi', b"<html>sign in</html>", b"\xff\xfe", b""]
    with serving(lambda *_: (200, JSON, bodies[len(calls)])) as url, store.record(task="t") as run:
        one, calls = client(url), list[Any]()
        while len(calls) < len(bodies):
            calls.append(one.chat.completions.with_raw_response.create(model="m", messages=HI))
    assert [c.error for c in store.trajectory(run.id).llm_calls] == ["the response is no JSON"] * 4
    assert store.trajectory(run.id).llm_calls[0].response["value"] == bodies[0].decode()


def test_an_answer_that_is_fetched_later(store: odograph.Store) -> None:
    """A response made in the background is one call: what was asked with the answer that was fetched, however often it was asked for."""
    polls = iter(("in_progress", "completed", "completed", "completed"))

    def answer(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        status = "queued" if method == "POST" else next(polls)
        return 200, JSON, RESPONSE if status == "completed" else {**RESPONSE, "status": status, "output": [], "usage": None}

    with serving(answer) as url:
        one = client(url)
        with store.record(task="t") as run, run.step():
            made = one.responses.create(model="m", input="q", background=True)
        for by in (one, client(url), one):  # a worker may make a client of its own
            got = by.responses.retrieve(made.id)
        assert got.output_text == "yo"
        one.responses.retrieve("another")
    (call,) = store.trajectory(run.id).llm_calls
    assert (call.text, call.completion_tokens, call.step, call.messages) == ("yo", 2, 0, [{"role": "user", "content": "q"}])


def test_an_answer_whose_stream_was_left_is_fetched_later(store: odograph.Store) -> None:
    """Who leaves the stream of a background response, keeps it open, and goes on from there by `retrieve` has one call, whole."""
    begun = event({"type": "response.created", "response": {**RESPONSE, "status": "queued", "output": [], "usage": None}})
    rest = event({"type": "response.completed", "response": RESPONSE})

    def answer(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        return 200, SSE, [begun if method == "POST" else rest]

    with serving(answer) as url:
        one = client(url)
        with store.record(task="t") as run, run.step():
            stream = one.responses.create(model="m", input="q", background=True, stream=True)
            assert next(iter(stream)).type == "response.created"
            assert [e.type for e in one.responses.retrieve("r1", stream=True, starting_after=0)] == ["response.completed"]
            del stream
    (call,) = store.trajectory(run.id).llm_calls
    assert (call.text, call.error, call.step, call.messages) == ("yo", None, 0, [{"role": "user", "content": "q"}])


def test_a_try_of_an_sdk_that_does_not_number_its_tries(store: odograph.Store) -> None:
    """What failed and is sent again as the next call is one call; where another call was between, or the body differs, it is not."""
    failing = [True, True, False, False, True, False, False, True, False]

    def answer(*_: Any) -> tuple[int, dict[str, str], Any]:
        return (503, JSON, {}) if failing.pop(0) else (200, JSON, CHAT)

    with serving(answer) as url, store.record(task="t") as run, odograph.wrap(httpx.Client()) as one:
        for asked in ("a", "a", "a", "a", "b", "c", "b", "d", "e"):
            one.post(url + "/v1/chat/completions", json={"model": "m", "messages": [{"role": "user", "content": asked}]})
    found = store.trajectory(run.id).llm_calls
    tries = [(c.messages[0]["content"], c.error, len((c.record.extra or {}).get("retries", ()))) for c in found]
    bad = "HTTP 503"
    assert tries == [("a", None, 2), ("a", None, 0), ("b", bad, 0), ("c", None, 0), ("b", None, 0), ("d", bad, 0), ("e", None, 0)]


def test_the_retries_of_google_are_one_call(store: odograph.Store) -> None:
    """google-genai repeats a request without a number: the tries are one call."""
    genai = pytest.importorskip("google.genai")
    said = {"candidates": [{"content": {"role": "model", "parts": [{"text": "yo"}]}, "finishReason": "STOP"}]}
    failing = [True, True, False]
    retry = genai.types.HttpRetryOptions(attempts=3, initial_delay=0.01, max_delay=0.01)
    with serving(lambda *_: (503, JSON, {}) if failing.pop(0) else (200, JSON, said)) as url, store.record(task="t") as run:
        one = odograph.wrap(genai.Client(api_key="x", http_options={"base_url": url, "retry_options": retry}))
        assert one.models.generate_content(model="g", contents="q").text == "yo"
    (call,) = store.trajectory(run.id).llm_calls
    assert (call.text, [r["status_code"] for r in call.record.extra["retries"]]) == ("yo", [503, 503])


def test_an_answer_that_is_cancelled_is_no_longer_waited_for(store: odograph.Store) -> None:
    """What `responses.cancel` answers is what became of the call."""

    def answer(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        status = "cancelled" if path.endswith("/cancel") else "queued"
        return 200, JSON, {**RESPONSE, "status": status, "output": [], "usage": None}

    with serving(answer) as url, store.record(task="t") as run:
        one = client(url)
        one.responses.cancel(one.responses.create(model="m", input="q", background=True).id)
    (call,) = store.trajectory(run.id).llm_calls
    assert call.record.response["status"] == "cancelled"
    assert call.messages == [{"role": "user", "content": "q"}]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_body_that_is_sent_as_it_is_made_is_whole_on_record(store: odograph.Store, kind: str) -> None:
    """A program on httpx may give a generator as the body. That of an upload, which is no call, is not read before it is sent.
    The transport below is entered and left with the client."""
    got: list[bytes] = []
    entered: list[bool] = []
    held: list[bool] = []

    def answer(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        got.append(body)
        return 200, JSON, CHAT

    class Below(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            held.append(hasattr(request, "_content"))
            return super().handle_request(request)

        def __enter__(self) -> Any:
            entered.append(True)
            return super().__enter__()

        def __exit__(self, *failure: Any) -> None:
            entered.append(False)
            super().__exit__(*failure)

    class AsyncBelow(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            held.append(hasattr(request, "_content"))
            return await super().handle_async_request(request)

        async def __aenter__(self) -> Any:
            entered.append(True)
            return await super().__aenter__()

        async def __aexit__(self, *failure: Any) -> None:
            entered.append(False)
            await super().__aexit__(*failure)

    def talk(url: str) -> None:
        with odograph.wrap(httpx.Client(transport=Below())) as one:
            one.post(url + "/v1/chat/completions", content=(body[k : k + 9] for k in range(0, len(body), 9)), headers=size)
            assert one.post(url + "/v1/files", content=iter([b"x" * 9]), headers={"content-length": "9"}).json() == CHAT

    async def talk_async(url: str) -> None:
        async def pieces(body: bytes) -> AsyncIterator[bytes]:
            for k in range(0, len(body), 9):
                yield body[k : k + 9]

        async with odograph.wrap(httpx.AsyncClient(transport=AsyncBelow())) as one:
            await one.post(url + "/v1/chat/completions", content=pieces(body), headers=size)
            files = await one.post(url + "/v1/files", content=pieces(b"x" * 9), headers={"content-length": "9"})
            assert files.json() == CHAT

    body = json.dumps({"model": "m", "messages": HI}).encode()
    size = {"content-length": str(len(body))}
    before = store.health()
    with serving(answer) as url, store.record(task="t") as run:
        talk(url) if kind == "sync" else asyncio.run(talk_async(url))
    (call,) = store.trajectory(run.id).llm_calls
    assert (call.text, call.messages, got, entered) == ("yo", HI, [body, b"x" * 9], [True, False])
    assert held == [True, False]
    after = store.health()
    assert (after["faults"], after["unrecorded"]) == (before["faults"], before["unrecorded"] + 1)


def test_the_transport_below_is_what_it_was() -> None:
    """Who asks a recorded client what transport it has, or uses it, has the one below; that one is closed with the client."""
    closed: list[bool] = []

    class Below(httpx.HTTPTransport):
        def close(self) -> None:
            closed.append(True)
            super().close()

    class AsyncBelow(httpx.AsyncHTTPTransport):
        async def aclose(self) -> None:
            closed.append(True)
            await super().aclose()

    async def use() -> None:
        one = odograph.wrap(httpx.AsyncClient(transport=AsyncBelow()))
        transport: Any = one._transport
        assert isinstance(transport, AsyncBelow) and type(transport) is not AsyncBelow and transport._pool is not None
        async with transport as entered:
            assert entered is transport
        await one.aclose()

    one = odograph.wrap(httpx.Client(transport=Below()))
    transport: Any = one._transport
    assert isinstance(transport, Below) and type(transport) is not Below and transport._pool is not None
    with transport as entered:
        assert entered is transport
    one.close()
    assert closed == [True]
    asyncio.run(use())
    assert closed == [True, True]


def test_a_stream_that_is_left_when_it_has_all_is_whole(store: odograph.Store) -> None:
    """A client that reads a stream up to the reason why the answer ended, and not the last event (LiteLLM reads Anthropic's so),
    has the whole answer: that is no error."""
    chunks = [chunk({"content": "all"}), chunk({}, "stop"), b": " + b"x" * 800_000 + b"\n\n", event("[DONE]")]
    with serving(lambda *_: (200, SSE, chunks)) as url:
        with store.record(task="t") as run, run.step():
            left = client(url).chat.completions.create(model="m", messages=HI, stream=True)
            for one in left:
                if one.choices[0].finish_reason:
                    break
            left.response.close()
    (call,) = store.trajectory(run.id).llm_calls
    assert (call.text, call.error, call.finish_reason) == ("all", None, "stop")


def test_a_stream_that_is_left_is_in_its_run(store: odograph.Store) -> None:
    """A stream that the agent leaves by `break` is on record when its run ends; if it is read on, what then comes counts."""
    chunks = [chunk({"content": c * 200_000}) for c in "abcd"] + [chunk({}, "stop"), event("[DONE]")]
    with serving(lambda *_: (200, SSE, chunks)) as url:
        with store.record(task="t") as run, run.step():
            left = client(url).chat.completions.create(model="m", messages=HI, stream=True)
            for _ in left:
                break
        t = store.trajectory(run.id)
        assert [(c.error, c.step) for c in t.llm_calls] == [("stream abandoned", 0)] and t.status == "completed"
        for _ in left:
            pass
    (call,) = store.trajectory(run.id).llm_calls
    assert (len(call.text), call.error) == (800_000, None)


def test_a_stream_cut_short_is_an_error(store: odograph.Store) -> None:
    """A stream that ends without its end is an answer that is not whole, and says so; a backend that says `[DONE]` and never why it
    ended is none."""
    half = {"role": "assistant", "content": "half an"}
    assert streamed(store, [chunk(half)]).error == "the stream ended in the middle"
    assert streamed(store, [chunk(half), event("[DONE]")]).error is None
    assert streamed(store, [chunk(half), chunk({}, "stop")]).error is None
    start = {"type": "message_start", "message": {**CLAUDE, "content": [], "stop_reason": None}}
    with serving(lambda *_: (200, SSE, [event(start, "message_start")])) as url, store.record(task="t") as run:
        claude = odograph.wrap(anthropic.Anthropic(base_url=url, api_key="x", max_retries=0))
        list(claude.messages.create(model="c", max_tokens=9, messages=HI, stream=True))
    assert store.trajectory(run.id).llm_calls[0].error == "the stream ended in the middle"


@pytest.mark.parametrize("at", [{"index": 0, "id": ""}, {"index": 0}, {}])
def test_parallel_calls_without_ids_stay_apart(store: odograph.Store, at: dict[str, Any]) -> None:
    """Tool calls that a backend numbers all alike and gives no ids are as many as it made."""
    calls = [{**at, "type": "function", "function": {"name": n, "arguments": '{"q":1}'}} for n in ("a", "b", "b")]
    call = streamed(store, [*(chunk({"tool_calls": [c]}) for c in calls), chunk({}, "tool_calls"), event("[DONE]")])
    assert [(c.name, c.arguments) for c in call.choices[0].tool_calls] == [(n, '{"q":1}') for n in ("a", "b", "b")]


def test_names_and_arguments_in_pieces(store: odograph.Store) -> None:
    """A tool's name may come in pieces, or be repeated with each piece of its arguments; it is one call."""
    pieces = [("get_", ""), ("weather", ""), (None, '{"a"'), (None, ":1}")]
    repeated = [("get_weather", ""), ("get_weather", '{"a"'), ("get_weather", ":1}")]
    for parts in (pieces, repeated):
        deltas = [{"tool_calls": [{"index": 0, "function": {"name": n, "arguments": a}}]} for n, a in parts]
        call = streamed(store, [*map(chunk, deltas), chunk({}, "tool_calls"), event("[DONE]")])
        assert [(c.name, c.arguments) for c in call.choices[0].tool_calls] == [("get_weather", '{"a":1}')]


def test_claude_in_a_cloud(store: odograph.Store) -> None:
    """Messages are recorded at the paths of Vertex AI, too, with the model that stands in the path."""
    vertex = getattr(anthropic, "AnthropicVertex", None)
    if vertex is None:
        pytest.skip("this SDK has no client for Vertex AI")
    with serving(lambda *_: (200, JSON, CLAUDE)) as url, store.record(task="t") as run:
        one = odograph.wrap(vertex(region="x", project_id="p", access_token="t", base_url=url + "/v1"))
        one.messages.create(model="claude-x", max_tokens=5, messages=HI)
    (call,) = store.trajectory(run.id).llm_calls
    assert (call.model, call.text, call.dialect, call.messages) == ("claude-x", "yo", "anthropic.messages", HI)
