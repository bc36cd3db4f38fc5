"""Agents that another agent starts: whose they are, and inside of which tool call. And a history that the server sums up."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

import odograph
from odograph.proxy.service import Proxy
from tests.llm_server import Answer, LLMServer
from tests.proxy.test_passing import one
from tests.proxy.test_whose import SYSTEM, ask, result, said, talk, user
from tests.proxy.wire import Wire, json_answer


@pytest.mark.parametrize("argument", [{"message": "count the lines"}, {"items": [{"type": "text", "text": "count the lines"}]}])
def test_codexs_agents_are_told_by_their_parents(store: odograph.Store, argument: dict[str, Any]) -> None:
    """Codex calls each agent of a session `/root`; one that has a parent is a sub-agent. The tool call that starts the agent returns at
    once, so that its result may be recorded before the agent's first call: the agent is inside of the call all the same."""
    call = {"type": "function_call", "call_id": "c1", "name": "spawn_agent", "arguments": json.dumps(argument)}
    answers = [[call], [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]}]]
    with (
        Wire(lambda head, body: json_answer({"id": "r", "object": "response", "output": answers[min(1, len(up.got) - 1)]})) as up,
        Proxy(store, [up.url]) as proxy,
    ):

        def create(thread: str, items: list[Any], **more: str) -> None:
            about = json.dumps({"session_id": "s", "thread_id": thread, "agent_name": "/root"})
            headers = {"session-id": "s", "thread-id": thread, "x-codex-turn-metadata": about, **more}
            openai.OpenAI(base_url=proxy.url + "/v1", api_key="k").responses.create(model="m", input=items, extra_headers=headers)

        create("s", [user("start")])
        create("s", [user("start"), call, {"type": "function_call_output", "call_id": "c1", "output": "started"}])
        parent = {"x-codex-parent-thread-id": "s", "x-openai-subagent": "collab_spawn"}
        create("t2", [user("count the lines")], **parent)
        create("t3", [user("what of it?")], **parent | {"x-openai-subagent": "review"})
    t = one(store)
    (action,) = t.actions
    root = t.start.id if t.start else None
    assert [(s.agent, s.record.parent) for s in t.steps if s.record is not None] == [
        ("codex", root),
        ("codex", root),
        ("spawn_agent", action.id),
        ("review", root),
    ]


@pytest.mark.parametrize("path", ["", "/t/r"])
def test_agents_that_are_told_the_same_are_in_calls_of_their_own(store: odograph.Store, path: str) -> None:
    """A model asks twice for the same: each agent is inside of the call that started it."""
    calls = [ask("spawn", f"call_{n}", prompt="count the files") for n in range(2)]
    script = [Answer(text="", tool_calls=calls), Answer(text="three"), Answer(text="four"), Answer(text="done")]
    with LLMServer(script) as server, Proxy(store, [server.url]) as proxy:
        talk(proxy, [SYSTEM, user("how many?")], path)
        for _ in range(2):
            talk(proxy, [{"role": "system", "content": "You count."}, user("count the files")], path)
        results = [result(text, f"call_{n}") for n, text in enumerate(("three", "four"))]
        talk(proxy, [SYSTEM, user("how many?"), said(script[0]), *results], path)
    t = one(store)
    counted = {s.record.parent: s.llm_calls[0].text for s in t.steps if s.agent is not None and s.record is not None}
    assert counted == {a.id: a.result for a in t.actions} and len(counted) == 2


def test_a_history_that_the_server_sums_up_is_no_step(store: odograph.Store) -> None:
    """Codex asks for it with all its tools, by the last item alone. The result that only this request holds is the action's, and the
    agent goes on behind what the server made."""
    call = {"type": "function_call", "call_id": "c1", "name": "shell", "arguments": "{}"}
    made = {"type": "compaction", "id": "cmp", "encrypted_content": "x"}
    text = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]}
    output = iter([call, made, text])
    begun = [user("go")]
    requests = [
        begun,
        [*begun, call, {"type": "function_call_output", "call_id": "c1", "output": "a.txt"}, {"type": "compaction_trigger"}],
        [*begun, made],
    ]
    with Wire(lambda head, body: json_answer({"id": "r", "object": "response", "output": [next(output)]})) as up:
        with Proxy(store, [up.url]) as proxy:
            client = openai.OpenAI(
                base_url=proxy.url + "/v1",
                api_key="k",
                default_headers={"session-id": "s", "thread-id": "s", "x-codex-window-id": "w"},
            )
            for items in requests:
                client.responses.create(model="m", input=items, tools=[{"type": "function", "name": "shell"}])  # type: ignore[call-overload]
    t = one(store)
    assert [c.purpose for c in t.llm_calls] == ["act", "compact", "act"] and t.status == "completed"
    assert [[a.result for a in s.actions] for s in t.steps] == [["a.txt"], []]
