"""Gemini: its views, its streams, its SDK at a wrapped client, and an agent that speaks it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import odograph
from odograph import Agent, Runners, Task, dialects
from odograph.dialects.framing import JSONArray, JSONLines

genai = pytest.importorskip("google.genai")
gemini = dialects.get("gemini")

THOUGHT = {"text": "let me see", "thought": True}
CALL = {"functionCall": {"name": "search", "args": {"q": "x"}}, "thoughtSignature": "c2ln"}
USAGE = {
    "promptTokenCount": 10,
    "cachedContentTokenCount": 4,
    "candidatesTokenCount": 3,
    "thoughtsTokenCount": 2,
    "totalTokenCount": 15,
}


def body(*parts: Any, reason: str | None = "STOP") -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    return {
        "candidates": [candidate | ({"finishReason": reason} if reason else {})],
        "usageMetadata": USAGE,
        "modelVersion": "g-1",
        "responseId": "r",
    }


class Server:
    """Answers each generateContent with the next of the bodies; streams word by word."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def do_POST(self) -> None:
                sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.requests.append((self.path, sent))
                if ":countTokens" in self.path:
                    self._send("application/json", json.dumps({"totalTokens": 3}).encode())
                    return
                answer = outer.answers.pop(0)
                if isinstance(answer, list):
                    if "alt=sse" in self.path:
                        self._send(
                            "text/event-stream", b"".join(b"data: " + json.dumps(e).encode() + b"\r\n\r\n" for e in answer)
                        )
                    else:
                        self._send("application/json", json.dumps(answer, indent=2).encode())
                else:
                    self._send("application/json", json.dumps(answer).encode())

            def _send(self, kind: str, data: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Server:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def client(server: Server) -> Any:
    return odograph.wrap(genai.Client(api_key="secret-key", http_options={"base_url": server.url}))


STREAM = [
    body(THOUGHT, reason=None),
    body({"text": "Hel"}, reason=None),
    body({"text": "lo"}, reason=None),
    body({**CALL}, {"text": "", "thoughtSignature": "ZW5k"}),
]


def test_the_sdk_is_recorded(store: odograph.Store) -> None:
    """google-genai, sync and async, streaming or not: model, messages, thoughts, tool calls and all counts are on record; counting
    tokens is no call."""

    async def later(it: Any) -> str:
        return "".join([c.text or "" async for c in await it.aio.models.generate_content_stream(model="g", contents="hi")])

    with Server(body(THOUGHT, {"text": "Hello"}, CALL), STREAM, body({"text": "yo"}), STREAM) as server:
        it = client(server)
        config = {"system_instruction": "be brief", "temperature": 0.5}
        with store.record(task="t") as run, run.step():
            it.models.count_tokens(model="g", contents="hi")
            whole = it.models.generate_content(model="g", contents="hi", config=config)
            streamed = "".join(c.text or "" for c in it.models.generate_content_stream(model="g", contents="hi", config=config))
            asyncio.run(it.aio.models.generate_content(model="g", contents="hi"))
            assert asyncio.run(later(it)) == "Hello"
    assert (whole.text, streamed) == ("Hello", "Hello")
    calls = store.trajectory(run.id).llm_calls
    assert [(c.model, c.text, c.error, c.dialect) for c in calls] == [
        ("g", t, None, "gemini") for t in ("Hello", "Hello", "yo", "Hello")
    ]
    for call in calls[:2]:
        (choice,) = call.choices
        assert (choice.reasoning, choice.finish_reason, call.prompt_tokens, call.completion_tokens) == (
            "let me see",
            "stop",
            10,
            5,
        )
        assert [(c.name, c.arguments) for c in choice.tool_calls] == [("search", {"q": "x"})]
        assert call.messages == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
        assert call.params["temperature"] == 0.5
        assert call.usage == USAGE
    assert len(calls[1].events) == 4
    assert "secret-key" not in str([c.record for c in calls])


def test_messages_of_a_conversation() -> None:
    """Function responses are the results of the calls of their names, with ids or without; signatures are no content."""
    request = {
        "systemInstruction": {"parts": [{"text": "s"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "q"}]},
            {"role": "model", "parts": [THOUGHT, CALL, {"functionCall": {"name": "search", "args": {"q": "y"}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "search", "response": {"r": n}}} for n in (1, 2)]},
        ],
        "tools": [{"functionDeclarations": [{"name": "search", "parameters": {"type": "OBJECT"}}]}, {"googleSearch": {}}],
    }
    system, user, asked, one, two = gemini.messages(request)
    assert (system["content"], user["content"], asked["reasoning_content"]) == ("s", "q", "let me see")
    ids = [c["id"] for c in asked["tool_calls"]]
    assert len(set(ids)) == 2 and [one["tool_call_id"], two["tool_call_id"]] == ids
    assert (one["content"], two["content"]) == ({"r": 1}, {"r": 2})
    assert [t.get("type") for t in gemini.tools(request)] == ["function", None]
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}}
    assert gemini.is_response(blocked) and gemini.choices(blocked)[0].finish_reason == "content_filter"


def test_results_alone_may_have_ids() -> None:
    """Gemini CLI's sub-agents send calls without ids and results with ids of their own: a result is of the first call of its name
    that waits and has no id, and never of a call with another one."""
    search, named = {"functionCall": {"name": "search"}}, {"functionCall": {"name": "search", "id": "a"}}
    for calls, ids, expected in (
        ([search, search], ["x#0", "x#1"], ["search-0", "search-1"]),
        ([named, search], ["x", "a"], ["search-1", "a"]),
        ([named], ["other"], ["other"]),
    ):
        parts = [{"functionResponse": {"name": "search", "id": id, "response": {}}} for id in ids]
        contents = [{"role": "model", "parts": calls}, {"role": "user", "parts": parts}]
        assert [m["tool_call_id"] for m in gemini.messages({"contents": contents})[1:]] == expected
        assert gemini.apart(contents[:1], contents, 1) == 0
    contents[1]["parts"][0]["functionResponse"]["id"] = "a"
    assert gemini.apart([], contents, 0) == 0 and gemini.apart([*contents], [*contents, *contents], 2) == 2


def test_a_stream_keeps_signatures_and_order() -> None:
    """Texts that follow each other become one; a thought, a call and the signature that ends a text stay apart, in their order."""
    parts = gemini.assemble(STREAM)["candidates"][0]["content"]["parts"]
    assert parts == [THOUGHT, {"text": "Hello"}, CALL, {"text": "", "thoughtSignature": "ZW5k"}]


def test_an_agent_speaks_it(store: odograph.Store) -> None:
    """An agent asks with declared functions, gets calls, sends results with the signatures that it was given, and streams."""

    def search(q: str) -> str:
        """Searches."""
        return f"found {q}"

    for stream in (False, True):
        first, second = body(CALL), body({"text": "done"})
        with Server(*([[first], [second]] if stream else [first, second])) as server:
            agent = Agent(name="a", model="g", base_url=server.url, api_key="k", dialect="gemini", tools=[search], stream=stream)
            responses = asyncio.run(Runners.run_task(Task(input="go", agent=agent), store=store))
        (response,) = responses.values()
        assert response.answer == "done"
        (path, _), (_, sent) = server.requests
        assert path == "/v1beta/models/g:" + ("streamGenerateContent?alt=sse" if stream else "generateContent")
        assert sent["contents"][1]["parts"] == [CALL]
        assert sent["contents"][2]["parts"] == [{"functionResponse": {"name": "search", "response": {"output": "found x"}}}]
        assert "model" not in sent and "stream" not in sent


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[n : n + size] for n in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_arrays_and_lines_may_be_cut_anywhere(size: int) -> None:
    """The items of a growing JSON array, and JSON lines, come out whole however the network cuts them; what is cut short counts."""
    items: list[Any] = [{"a": '],{"\\'}, {"b": [1, [2, "}"]]}, "x,]", 7, {}]
    for text in (json.dumps(items), json.dumps(items, indent=1)):
        array = JSONArray()
        for chunk in chunks(text.encode(), size):
            array.feed(chunk)
        array.close()
        assert (array.events, array.done) == (items, True)
    whole = JSONArray()
    for chunk in chunks(b' {"error": {"code": 429}}', size):
        whole.feed(chunk)
    whole.close()
    assert whole.events == [{"error": {"code": 429}}] and not whole.done
    lines = JSONLines()
    for chunk in chunks(b"".join(json.dumps(i).encode() + b"\n" for i in items)[:-1], size):
        lines.feed(chunk)
    lines.close()
    assert lines.events == items
