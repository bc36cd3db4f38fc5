"""Whatever crosses the wire is a record, and never a fault: junk as requests, as responses, as headers."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

import odograph
from odograph.capture.faults import faults
from odograph.proxy.service import Proxy
from tests.proxy.test_passing import post, raw
from tests.proxy.wire import Wire, json_answer

PATHS = (
    "/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/messages", "/v1beta/models/g:generateContent", "/generate",
    "/inference/v1/generate", "/v1/messages/count_tokens",
)  # fmt: skip
JUNK: list[Any] = [
    None, 1, "text", [], {}, [[]], {"messages": 1}, {"messages": [1, None, [], {"role": []}]},
    {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": [1]}, {"type": {}}]}]},
    {"messages": [{"role": "assistant", "tool_calls": [1, {"id": {}, "function": []}]}, {"role": "tool", "tool_call_id": {}}]},
    {"input": [{"type": []}, {"type": "function_call_output", "call_id": {}}]}, {"input": {}, "tools": 5, "instructions": []},
    {"contents": [{"parts": [{"functionResponse": 1}, {"functionCall": {"name": []}}]}], "systemInstruction": 3},
    {"prompt": [[1], "x", None]}, {"metadata": {"user_id": {}}}, {"metadata": {"user_id": "{"}}, {"system": {"parts": {}}, "max_tokens": 1},
    {"choices": [{"message": {"tool_calls": [{"id": None, "function": {"name": None, "arguments": 5}}]}}]}, {"output": [1, {}]},
    {"content": [{"type": "tool_use", "id": [], "name": {}, "input": []}], "role": "assistant", "stop_reason": []},
    {"candidates": [{"content": {"parts": 5}}]}, {"text": 5, "meta_info": {"output_token_logprobs": [1]}}, {"usage": {"prompt_tokens": "x"}},
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_any_json_is_recorded(store: odograph.Store, path: str) -> None:
    """Any JSON, and what is none, passes as it is in both directions and is recorded, in named runs and without."""
    bodies = [json.dumps(j).encode() for j in JUNK] + [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"messages":[{"role":"user","content":"\\ud800"}]}',
    ]
    before = faults.count
    with Wire(lambda head, body: json_answer(body[::-1] if body[:1] == b"\x00" else body)) as up, Proxy(store, [up.url]) as proxy:
        for prefix in ("/t/r", "", "/t/r/agent/a"):
            for body in bodies:
                assert post(proxy.url, prefix + path, body)[2] == body
    assert faults.count == before
    calls = [c for t in store.trajectories() for c in t.llm_calls]
    again = [
        attempt for call in calls for attempt in (call.extra or {}).get("retries", [])
    ]  # an answer that is no JSON is a failure
    assert len(calls) + len(again) == 3 * len(bodies)
    for t in store.trajectories():
        odograph.validate(t)


def test_odd_headers_cost_nothing(store: odograph.Store) -> None:
    """Headers of agents that say nonsense neither stop a call nor keep it from being recorded."""
    odd = [
        {"x-codex-turn-metadata": "{"},
        {"x-codex-turn-metadata": "[1]"},
        {"x-claude-code-session-id": "x" * 5000},
        {"session-id": ""},
        {"x-session-id": "ü"},
    ]
    before = faults.count
    with Wire(lambda head, body: json_answer({})) as up, Proxy(store, [up.url]) as proxy:
        assert [post(proxy.url, PATHS[0], b"{}", **h)[0] for h in odd] == [200] * 5
    assert faults.count == before and sum(len(t.llm_calls) for t in store.trajectories()) == 5


@pytest.mark.parametrize("body", [b"{}", b""])
def test_header_bytes_that_are_no_utf_8_pass(store: odograph.Store, body: bytes) -> None:
    """Node writes a header `café` in Latin-1: its bytes go upstream, and those of the response come down, as they are, also on a
    connection that is used again."""
    odd, more = b"x-name: caf\xe9 \xff", b"x-other: \xc3\xa9"
    answer = b"HTTP/1.1 200 OK\r\n" + odd + b"\r\ncontent-type: application/json\r\n" + more + b"\r\ncontent-length: 2\r\n\r\n{}"
    with Wire(lambda head, body: [answer]) as up, Proxy(store, [up.url]) as proxy:
        parts = urlsplit(proxy.url)
        with socket.create_connection((parts.hostname, parts.port)) as client:
            for sent in (odd, more, odd):
                head = (
                    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                    + sent
                    + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
                )
                client.sendall(head + body)
                got = b""
                while not got.endswith(b"\r\n\r\n{}"):
                    piece = client.recv(65536)
                    assert piece, got
                    got += piece
                assert got == answer
                assert sent in up.got[-1][0].split(b"\r\n") and up.got[-1][1] == body


@pytest.mark.parametrize("base", ["", "/base", "/v1"])
def test_the_target_of_a_request_goes_upstream_as_it_is(store: odograph.Store, base: str) -> None:
    """The path and the query of a request go upstream in the client's spelling, whatever a library of URLs would make of it."""
    targets = (
        "/v1/x?", "/v1/x??", "/v1/x?a=1&", "/v1/x?a=%2F+%20%zz", "//v1/x", "/v1//x/", "/v1/x;y=1?", "/v1%2fx", "/v1/%41~%7E", "/v1/x?/../?",
        "/v1/a:b@c!$&'()*+,=", '/v1/"<x>|{y}[z]^`\\', "/v1/%", "/x?" + "q" * 30_000, "/" + "p" * 30_000 + "?",
    )  # fmt: skip
    with Wire(lambda head, body: json_answer({})) as up, Proxy(store, [up.url + base]) as proxy:
        for target in targets:
            for prefix in ("", "/t/r", "/t/r/group/g/-"):
                asked = f"GET {prefix}{target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                assert raw(proxy.url, asked.encode()).startswith(b"HTTP/1.1 200")
                expected = base.removesuffix("/v1" if target.startswith(("/v1/", "/v1?")) else "") + target
                assert up.got[-1][0].split(b" ")[1].decode() == expected


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nconte"])
def test_a_call_that_an_upstream_breaks_off_is_asked_once(store: odograph.Store, answer: bytes) -> None:
    """A request that a new connection took is with the upstream: nobody but the client sends it again."""

    def script(head: bytes, body: bytes) -> Any:
        yield answer
        raise OSError

    with Wire(script) as up, Proxy(store, [up.url]) as proxy:
        assert [post(proxy.url, PATHS[0], b"{}")[0] for _ in range(2)] == [502, 502]
    assert len(up.got) == 2
