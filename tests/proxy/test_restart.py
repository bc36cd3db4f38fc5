"""What goes on behind a proxy that was started again: each call lands in the trajectory that it belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.proxy import placing
from odograph.proxy.service import Proxy
from tests.llm_server import Answer, LLMServer
from tests.proxy.test_passing import one, post
from tests.proxy.test_whose import SYSTEM, TOOLS, ask, result, said, talk, user
from tests.proxy.wire import Wire, json_answer

KEY = "sk-" + "proj-" + "Zx81jQmV0aLr5TgYb3Wn7Kc2"


def send(proxy: Proxy, path: str, body: dict[str, Any], **headers: str) -> None:
    assert post(proxy.url, path, json.dumps(body).encode(), **headers)[0] == 200


@pytest.mark.parametrize("sealed", [False, True])
def test_attempts_without_a_name_go_on_where_they_were(store: odograph.Store, sealed: bool) -> None:
    """Two attempts at one task, without any name: behind another proxy each goes on in its own trajectory, its tool's result
    becomes the action of the call that asked, and a third attempt is a trajectory of its own."""
    answers = [Answer(text="", tool_calls=[ask("sh", f"call_{n}", command=str(n))]) for n in (1, 2)]
    messages = [SYSTEM, user("go")]
    with LLMServer([*answers, Answer(text="done")]) as server:
        with Proxy(store, [server.url]) as proxy:
            talk(proxy, messages)
            talk(proxy, messages)
        if sealed:
            store.seal()
        with Proxy(store, [server.url]) as proxy:
            talk(proxy, [*messages, said(answers[1]), result("two", "call_2")])
            talk(proxy, messages)
            talk(proxy, [*messages, said(answers[0]), result("one", "call_1")])
    found = [(t.status, [(len(s.llm_calls), [a.result for a in s.actions]) for s in t.steps]) for t in store.trajectories()]
    assert found[:2] == [("completed", [(1, [text]), (1, [])]) for text in ("one", "two")]
    assert found[2:] == [("completed", [(1, [])])]


@pytest.mark.parametrize("secret", [False, True])
def test_every_dialect_goes_on(tmp_path: Path, secret: bool) -> None:
    """Messages of Anthropic and contents of Gemini go on too, also in a store without secrets, which keeps other bytes than those
    that crossed the wire."""
    task = f"use {KEY} and go" if secret else "go"
    marked = {"type": "text", "cache_control": {"type": "ephemeral"}, "text": task}
    claude: list[Any] = [{"role": "user", "content": [marked]}]
    gemini: list[Any] = [{"role": "user", "parts": [{"text": task}]}]
    more = {"model": "m", "max_tokens": 99}
    with odograph.open(tmp_path / "s", redact=True if secret else None) as store, LLMServer([Answer(text="ok")]) as server:
        with Proxy(store, [server.url]) as proxy:
            send(proxy, "/v1/messages", {**more, "messages": claude})
            send(proxy, "/v1beta/models/m:generateContent", {"contents": gemini})
        claude[0]["content"] = [{"type": "text", "text": task}]  # the mark of the cache moves on
        claude += [{"role": "assistant", "content": [{"type": "text", "text": "ok"}]}, {"role": "user", "content": "more"}]
        gemini += [{"role": "model", "parts": [{"text": "ok"}]}, {"role": "user", "parts": [{"text": "more"}]}]
        with Proxy(store, [server.url]) as proxy:
            send(proxy, "/v1/messages", {**more, "messages": claude})
            send(proxy, "/v1beta/models/m:generateContent", {"contents": gemini})
        assert [[s.observation for s in t.steps][1:] for t in store.trajectories()] == [["more"], ["more"]]
    assert not secret or not any(KEY.encode() in f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())


def test_a_sub_agent_under_way_stays_inside_of_its_action(store: odograph.Store) -> None:
    """A sub-agent was at work when the proxy ended: its next call, and its result, stand in the action that started it."""
    spawn = Answer(text="", tool_calls=[ask("spawn", prompt="count the files", subagent_type="counter")])
    listing = Answer(text="", tool_calls=[ask("sh", "call_2", command="ls")])
    main, sub = [SYSTEM, user("how many?")], [{"role": "system", "content": "You count."}, user("count the files")]
    with LLMServer([spawn, listing, Answer(text="three"), Answer(text="done")]) as server:
        with Proxy(store, [server.url]) as proxy:
            talk(proxy, main)
            talk(proxy, sub)
        with Proxy(store, [server.url]) as proxy:
            talk(proxy, [*sub, said(listing), result("a b c", "call_2")])
            talk(proxy, [*main, said(spawn), result("three")])
    t = one(store)
    (started,) = [a for a in t.actions if a.name == "spawn"]
    assert (started.result, t.end.answer) == ("three", "done")
    assert [(s.agent, s.index, s.record.parent == started.id) for s in t.steps] == [
        (None, 0, False),
        ("counter", 0, True),
        ("counter", 1, True),
        (None, 1, False),
    ]
    assert odograph.validate(t).valid


def test_sessions_and_histories_that_a_server_keeps_go_on(store: odograph.Store) -> None:
    """A session that headers name, a conversation of the Responses API, and a chain of `previous_response_id`."""
    numbers = iter(range(100))

    def answer(head: bytes, body: bytes) -> list[bytes]:
        said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]}
        return json_answer({"id": f"resp_{next(numbers)}", "object": "response", "status": "completed", "output": [said]})

    with Wire(answer) as up:
        for n in range(2):
            with Proxy(store, [up.url]) as proxy:
                send(proxy, "/v1/responses", {"model": "m", "input": f"s{n}"}, session_id="s1", user_agent="codex/1")
                send(proxy, "/v1/responses", {"model": "m", "input": f"c{n}", "conversation": {"id": "conv_1"}})
                before = {"previous_response_id": "resp_3"} if n else {}
                send(proxy, "/v1/responses", {"model": "m", "input": "x"})  # somebody else
                send(proxy, "/v1/responses", {"model": "m", "input": f"p{n}", **before})
                send(proxy, "/v1/responses", {"model": "m", "input": f"p{n}+", "previous_response_id": f"resp_{3 + 5 * n}"})
    found = sorted([s.observation for s in t.steps] for t in store.trajectories())
    assert found == [["c0", "c1"], ["p0", "p0+", "p1", "p1+"], ["s0", "s1"], ["x"], ["x"]]


def test_what_is_forgotten_is_found_again_and_nothing_is_read_twice(
    store: odograph.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More conversations than memory holds: the forgotten ones go on too. A history that nobody knows reads ten trajectories at
    most, and each of them once."""
    monkeypatch.setattr(placing, "_MOST_TRAILS", 3)
    with LLMServer([Answer(text="ok")]) as server, Proxy(store, [server.url]) as proxy:
        for n in range(6):
            talk(proxy, [user(f"task {n}")])
        for n in range(6):
            talk(proxy, [user(f"task {n}"), said(Answer(text="ok")), user("more")])
        read: list[str] = []
        whole = store.trajectory
        monkeypatch.setattr(type(store), "trajectory", lambda self, id: read.append(id) or whole(id))
        for n in range(4):
            talk(proxy, [user(f"never {n}"), said(Answer(text="ok")), user("more")])
    assert [len(t.steps) for t in store.trajectories()] == [2] * 6 + [1] * 4
    assert len(read) <= 10


@pytest.mark.parametrize("secret", [False, True])
def test_a_first_call_that_failed_is_repeated_across_a_restart(tmp_path: Path, secret: bool) -> None:
    """Without any name, and in a store without secrets: the repetition is known by what the request says. A request that says
    something else, and one like a call that was answered, begin trajectories of their own."""
    messages = [SYSTEM, user(f"use {KEY}" if secret else "go")]
    full = Answer(status=529, text="full")
    with (
        odograph.open(tmp_path / "s", redact=True if secret else None) as store,
        LLMServer([full, full, Answer(text="other"), Answer(text="done"), Answer(text="again")]) as server,
    ):
        bodies = [messages, messages, [SYSTEM, user("else")], messages, messages]
        for sent, status in zip(bodies, (529, 529, 200, 200, 200), strict=True):
            with Proxy(store, [server.url]) as proxy:
                body = json.dumps({"model": "m", "messages": sent, "tools": TOOLS}).encode()
                assert post(proxy.url, "/v1/chat/completions", body)[0] == status
        found = [[[c.text for c in s.llm_calls] for s in t.steps] for t in store.trajectories()]
        retried = next(store.trajectories()).llm_calls[0].extra or {}
    assert found == [[["done"]], [["other"]], [["again"]]]
    assert [r["status_code"] for r in retried["retries"]] == [529, 529]


@pytest.mark.parametrize("prefix", ["/t/r", ""])
def test_a_retry_is_one_call_across_a_restart(store: odograph.Store, prefix: str) -> None:
    """A call failed, and the proxy was started again before the agent repeated it: still one call of one step. In a conversation
    without a name, too, once the model has answered in it."""
    first = Answer(text="", tool_calls=[ask("sh", command="ls")])
    messages = [SYSTEM, user("go")]
    with LLMServer([first, Answer(status=529, text="full"), Answer(status=529, text="full"), Answer(text="done")]) as server:
        with Proxy(store, [server.url]) as proxy:
            talk(proxy, messages, prefix)
        messages += [said(first), result("a.txt")]
        for status in (529, 529, 200):
            with Proxy(store, [server.url]) as proxy:
                body = json.dumps({"model": "m", "messages": messages, "tools": TOOLS}).encode()
                assert post(proxy.url, prefix + "/v1/chat/completions", body)[0] == status
    t = one(store)
    assert [[c.status_code for c in s.llm_calls] for s in t.steps] == [[200], [200]]
    assert [r["status_code"] for r in t.llm_calls[1].extra["retries"]] == [529, 529] and t.status == "completed"
