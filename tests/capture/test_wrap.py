"""`wrap`: real SDKs against a real local server; what is recorded is what crossed the socket. Runs on old SDKs, too."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

import odograph
from tests.llm_server import Answer, LLMServer

CALL = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": '{"q": "x"}'}}
FULL = Answer(
    text="Hello there, world", tool_calls=[CALL], reasoning="Let me think.", extra={"unknown": {"deep": [1, None, 0.0]}}
)


def chat_client(server: LLMServer, **more: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + "/v1", api_key="sk-secret", **{"max_retries": 0, **more})


def claude(server: LLMServer, **more: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key="sk-secret", **{"max_retries": 0, **more})


def only_call(store: odograph.Store, id: str) -> Any:
    (call,) = store.trajectory(id).llm_calls
    return call


def on_disk(store: odograph.Store) -> bytes:
    return b"".join(p.read_bytes() for p in (store.root / "journal").glob("*"))


def test_chat(store: odograph.Store) -> None:
    """A chat completion is recorded value-equal to the wire, both ways, unknown fields and temperature 0.0 included; no key."""
    with LLMServer([FULL]) as server:
        client = odograph.wrap(chat_client(server))
        with store.record(task="x") as run, run.step():
            answer = client.chat.completions.create(
                model="m",
                temperature=0.0,
                messages=[{"role": "user", "content": "hi"}],
                tools=[{"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}],
            )
    call = only_call(store, run.id)
    assert call.request == server.requests[0][1]
    assert call.response == json.loads(server.responses[0])
    assert answer.choices[0].message.content == "Hello there, world"
    assert (call.record.dialect, call.record.origin, call.model, call.record.step) == ("openai.chat", "wire", "m", 0)
    assert (call.prompt_tokens, call.completion_tokens, call.record.status_code, call.record.error) == (7, 3, 200, None)
    assert (call.text, call.reasoning, call.finish_reason) == ("Hello there, world", "Let me think.", "tool_calls")
    assert call.choices[0].tool_calls[0].name == "search"
    assert call.record.duration > 0
    assert b"sk-secret" not in on_disk(store)


def test_chat_stream(store: odograph.Store) -> None:
    """A streamed answer is recorded as the body it amounts to, and event by event as it came; the agent sees every chunk."""
    with LLMServer([FULL]) as server:
        client = odograph.wrap(chat_client(server))
        with store.record(task="x") as run, run.step():
            chunks = list(
                client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "hi"}], stream=True, stream_options={"include_usage": True}
                )
            )
    call = only_call(store, run.id)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello there, world"
    assert call.request == server.requests[0][1]
    sent = [json.loads(line[6:]) for line in server.responses[0].decode().split("\n\n") if line.startswith("data: {")]
    assert call.events == sent
    assert len(chunks) == len(sent)
    whole = call.response
    assert (call.text, call.reasoning, whole["unknown"]) == ("Hello there, world", "Let me think.", {"deep": [1, None, 0.0]})
    assert whole["choices"][0]["message"]["tool_calls"][0]["function"] == CALL["function"]
    assert (call.prompt_tokens, call.completion_tokens, call.record.error) == (7, 3, None)
    assert 0 < call.record.first_token <= call.record.duration


def test_tokens(store: odograph.Store) -> None:
    """`tokens=True` asks for ids and logprobs, which are then at hand, streamed or not; prompts' ids are stored once."""
    answer = Answer(text="abc", token_ids=[5, 6, 7], prompt_token_ids=list(range(50)), logprobs=[-0.1, 0.0, -2.0])
    with LLMServer([answer]) as server:
        client = odograph.wrap(chat_client(server), tokens=True)
        with store.record(task="x") as run, run.step():
            plain = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
            for _ in client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True):
                pass
    assert plain.choices[0].message.content == "abc"
    assert server.requests[0][1]["return_token_ids"] is True
    for call in store.trajectory(run.id).llm_calls:
        assert call.prompt_token_ids == list(range(50))
        assert (call.choices[0].token_ids, call.choices[0].logprobs) == ([5, 6, 7], [-0.1, 0.0, -2.0])
        assert call.request["logprobs"] is True
    assert store.trajectory(run.id).llm_calls[0].response == json.loads(server.responses[0])


def test_responses_and_messages(store: odograph.Store) -> None:
    """The Responses API and Anthropic's Messages, streamed or not: requests, answers, tool calls, reasoning, usage."""
    with LLMServer([FULL]) as server:
        client, anthropic_client = odograph.wrap(chat_client(server)), odograph.wrap(claude(server))
        with store.record(task="x") as run, run.step():
            client.responses.create(model="m", input="hi", instructions="be short")
            with client.responses.stream(model="m", input="hi") as stream:
                for _ in stream:
                    pass
            anthropic_client.messages.create(model="c", max_tokens=10, system="s", messages=[{"role": "user", "content": "hi"}])
            with anthropic_client.messages.stream(
                model="c", max_tokens=10, messages=[{"role": "user", "content": "hi"}]
            ) as messages:
                final = messages.get_final_message()
    calls = store.trajectory(run.id).llm_calls
    assert [c.record.dialect for c in calls] == ["openai.responses"] * 2 + ["anthropic.messages"] * 2
    for number, call in enumerate(calls):
        assert call.request == server.requests[number][1]
        assert (call.text, call.reasoning, call.record.error) == ("Hello there, world", "Let me think.", None)
        assert (call.prompt_tokens, call.completion_tokens) == (7, 3)
        assert call.choices[0].tool_calls[0].name == "search"
    assert calls[0].response == json.loads(server.responses[0])
    assert (
        calls[1].response
        == json.loads(server.responses[1].decode().split("event: response.completed\ndata: ")[1].split("\n\n")[0])["response"]
    )
    assert calls[2].response == json.loads(server.responses[2])
    assert calls[3].response == calls[2].response
    assert final.content[-1].input == {"q": "x"}
    assert calls[0].messages[0] == {"role": "system", "content": "be short"}
    assert calls[2].messages[0] == {"role": "system", "content": "s"}


def test_async_and_parallel(store: odograph.Store) -> None:
    """Async clients, streaming or not, many at once in one loop: each call belongs to the run that made it."""

    async def agent(client: openai.AsyncOpenAI, number: int) -> str:
        async with store.record(task=number) as run:
            async with run.step():
                await client.chat.completions.create(model="m", messages=[{"role": "user", "content": f"a{number}"}])
                stream = await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": f"b{number}"}], stream=True
                )
                async for _ in stream:
                    await asyncio.sleep(0)
        return run.id

    async def main(url: str) -> list[str]:
        async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="x", max_retries=0) as client:
            assert odograph.wrap(client) is client
            return list(await asyncio.gather(*(agent(client, n) for n in range(12))))

    with LLMServer(lambda request: Answer(text=request["messages"][0]["content"], delay=0.001)) as server:
        ids = asyncio.run(main(server.url))
    for number, id in enumerate(ids):
        a, b = store.trajectory(id).llm_calls
        assert (a.text, b.text, a.messages[0]["content"], b.record.error) == (f"a{number}", f"b{number}", f"a{number}", None)


def test_an_abandoned_stream(store: odograph.Store) -> None:
    """A stream that the agent closes, or just drops, is recorded with what it had read, and that it was abandoned."""
    with LLMServer([Answer(text="x" * 400, delay=0.002)]) as server:
        client = odograph.wrap(chat_client(server))
        with store.record(task="x") as run, run.step():
            stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
            for number, _ in enumerate(stream):
                if number == 5:
                    break
            stream.close()
            dropped = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "again"}], stream=True)
            next(iter(dropped))
            del dropped, stream
            gc.collect()
    calls = store.trajectory(run.id).llm_calls
    assert [c.record.error for c in calls] == ["stream abandoned"] * 2
    assert 0 < len(calls[0].text) < 400
    assert set(calls[0].text) == {"x"}


def test_a_stream_that_is_dropped_unread(store: odograph.Store) -> None:
    """An answer that nobody reads is on record as soon as Python lets go of it, by an async client, too."""
    messages: Any = [{"role": "user", "content": "hi"}]

    async def drop(server: LLMServer) -> None:
        client = odograph.wrap(openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0))
        await client.chat.completions.create(model="m", messages=messages, stream=True)

    with LLMServer([Answer(text="x")]) as server, store.record(task="x") as run:
        odograph.wrap(chat_client(server)).chat.completions.create(model="m", messages=messages, stream=True)
        gc.collect()
        assert [c.record.error for c in store.trajectory(run.id).llm_calls] == ["stream abandoned"]
        asyncio.run(drop(server))
        gc.collect()
        assert [c.record.error for c in store.trajectory(run.id).llm_calls] == ["stream abandoned"] * 2


def test_a_stream_that_is_closed_gives_its_connection_back(store: odograph.Store) -> None:
    """A client with one connection goes on after each stream that its agent left, in threads of asyncio and without."""
    limits = type(openai.DEFAULT_CONNECTION_LIMITS)(max_connections=1)
    messages: Any = [{"role": "user", "content": "hi"}]
    with LLMServer([Answer(text="x" * 40)]) as server, store.record(task="x") as run, run.step():
        with openai.DefaultHttpxClient(limits=limits) as http:
            client = odograph.wrap(chat_client(server, http_client=http, timeout=3))
            for _ in range(3):
                with client.chat.completions.create(model="m", messages=messages, stream=True) as stream:
                    next(iter(stream))

        async def main() -> None:
            async with openai.DefaultAsyncHttpxClient(limits=limits) as http:
                url = server.url + "/v1"
                bare = openai.AsyncOpenAI(base_url=url, api_key="k", http_client=http, timeout=3, max_retries=0)
                client = odograph.wrap(bare)
                for _ in range(3):
                    async with await client.chat.completions.create(model="m", messages=messages, stream=True) as stream:
                        await anext(aiter(stream))

        asyncio.run(main())
    assert len(store.trajectory(run.id).llm_calls) == 6


def test_errors_are_recorded_and_raised_on(store: odograph.Store) -> None:
    """HTTP errors, cut connections and refused ones are the agent's to handle: recorded, and raised as ever."""
    script = [
        Answer(status=400, text="bad"),
        Answer(status=500, raw=b"<html>oops"),
        Answer(text="y" * 5000, drop_after=300),
        Answer(text="z" * 900, drop_after=2000),
    ]
    with LLMServer(script) as server:
        client = odograph.wrap(chat_client(server))
        with store.record(task="x") as run, run.step():
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(model="m", messages=[])
            with pytest.raises(openai.InternalServerError):
                client.chat.completions.create(model="m", messages=[])
            with pytest.raises(openai.APIConnectionError):
                client.chat.completions.create(model="m", messages=[])
            with pytest.raises(Exception, match=r".+"):
                list(client.chat.completions.create(model="m", messages=[], stream=True))
    with store.record(task="y") as refused, refused.step():
        with pytest.raises(openai.APIConnectionError):
            client.chat.completions.create(model="m", messages=[])
    calls = store.trajectory(run.id).llm_calls
    assert [c.record.status_code for c in calls] == [400, 500, 200, 200]
    assert all(c.record.error for c in calls)
    assert calls[0].response == json.loads(server.responses[0])
    assert calls[1].response == {"$odograph": "raw", "value": "<html>oops"}
    assert "z" in calls[3].text
    assert only_call(store, refused.id).record.error["type"].endswith("ConnectError")


def test_a_connection_that_is_cut_is_an_error_of_an_async_client(store: odograph.Store) -> None:
    """Of an answer and of a stream: recorded with what had come, and raised as ever."""

    async def read(client: Any, **more: Any) -> None:
        answer = await client.chat.completions.create(model="m", messages=[], **more)
        async for _ in answer:
            pass

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0) as bare:
            with store.record(task="x") as run, run.step():
                for stream in (False, True):
                    with pytest.raises(Exception, match=r".+"):
                        await read(odograph.wrap(bare), stream=stream)
            whole, streamed = store.trajectory(run.id).llm_calls  # before the connections are closed
            assert whole.error and streamed.error
            assert "z" in streamed.text and streamed.record.error["type"].endswith("ProtocolError")

    with LLMServer([Answer(text="y" * 5000, drop_after=300), Answer(text="z" * 900, drop_after=2000)]) as server:
        asyncio.run(main())


def test_retries_belong_to_one_call(store: odograph.Store) -> None:
    """The SDK's own retries are one call, with the failed attempts in it; none of them is lost if the process dies between."""
    script = [Answer(status=500), Answer(status=429), Answer(text="at last"), Answer(status=500)]
    with LLMServer(script) as server:
        client = odograph.wrap(chat_client(server, max_retries=2))
        client._calculate_retry_timeout = lambda *_: 0.0  # type: ignore[method-assign]
        with store.record(task="x") as run, run.step():
            answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
            with pytest.raises(openai.InternalServerError):
                client.chat.completions.create(model="m", messages=[{"role": "user", "content": "again"}])
    assert answer.choices[0].message.content == "at last"
    good, bad = store.trajectory(run.id).llm_calls
    assert [r["status_code"] for r in good.record.extra["retries"]] == [500, 429]
    assert (good.text, good.record.error, bad.record.status_code) == ("at last", None, 500)
    assert len(bad.record.extra["retries"]) == 2
    assert len([r for r in store.trajectory(run.id).records if isinstance(r, odograph.types.LLMCall)]) == 6
    assert next(store.summaries()).llm_calls == 2


def test_gzip_raw_copies_threads_and_wrapping_twice(store: odograph.Store) -> None:
    """Compressed answers, `with_raw_response`, `with_options` copies, threads; wrapping twice records once."""
    with LLMServer([Answer(text="zipped", encoding="gzip")]) as server:
        client = odograph.wrap(odograph.wrap(chat_client(server)))
        with store.record(task="x") as run, run.step():
            raw = client.chat.completions.with_raw_response.create(model="m", messages=[])
            assert raw.parse().choices[0].message.content == "zipped"
            client.with_options(timeout=5).chat.completions.create(model="m", messages=[])
            with client.chat.completions.with_streaming_response.create(model="m", messages=[]) as streaming:
                streaming.read()
            thread = threading.Thread(target=odograph.bind(lambda: client.chat.completions.create(model="m", messages=[])))
            thread.start()
            thread.join()
    calls = store.trajectory(run.id).llm_calls
    assert [c.text for c in calls] == ["zipped"] * 4
    assert [c.record.error for c in calls] == [None] * 4


def test_outside_of_a_run_each_call_is_its_own_trajectory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a run a wrapped client records into the default store, a trajectory a call; retries stay one."""
    monkeypatch.setenv("ODOGRAPH_STORE", str(tmp_path / "default"))
    monkeypatch.setattr("odograph.api._default", None)
    with LLMServer([Answer(text="one"), Answer(status=500), Answer(text="two")]) as server:
        client = odograph.wrap(chat_client(server, max_retries=1))
        client._calculate_retry_timeout = lambda *_: 0.0  # type: ignore[method-assign]
        for _ in range(2):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    with odograph.open() as default:
        assert [(t.status, [c.text for c in t.llm_calls]) for t in default.trajectories()] == [
            ("completed", ["one"]),
            ("completed", ["two"]),
        ]
        assert [s.status for s in default.summaries()] == ["completed", "completed"]


def test_a_wrapped_client_has_what_its_sdk_has() -> None:
    """Where the SDK has no WebSockets, the wrapped client has none."""
    client = openai.OpenAI(api_key="k")
    has = hasattr(client.responses, "connect")
    assert hasattr(odograph.wrap(client).responses, "connect") == has


def test_other_clients_are_refused() -> None:
    """What is no SDK client is refused with what was expected."""
    with pytest.raises(
        TypeError, match=r"wrap\(\) takes a client of the openai, anthropic or google-genai SDK, or of httpx, not builtins\.dict"
    ):
        odograph.wrap({})
