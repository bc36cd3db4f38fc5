"""Whose call it is: by its address, its key, its headers, or by whose messages it goes on with; steps, actions, sub-agents, retries."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

import odograph
from odograph.proxy.service import Proxy
from tests.llm_server import Answer, LLMServer
from tests.proxy.test_passing import one, post
from tests.proxy.wire import END, Wire, chat_body, chat_chunk, chunk, events, head_of, json_answer

TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {"command": {"type": "string"}}}},
    }
    for name in ("sh", "spawn")
]
SYSTEM = {"role": "system", "content": "You work."}


def ask(name: str, id: str = "call_1", **arguments: Any) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(answer: Answer) -> dict[str, Any]:
    return {"role": "assistant", "content": answer.text or None, "tool_calls": answer.tool_calls}


def result(text: str, id: str = "call_1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": text}


def talk(proxy: Proxy, messages: list[Any], path: str = "", tools: Any = TOOLS, **headers: str) -> None:
    client = openai.OpenAI(base_url=proxy.url + path + "/v1", api_key="k", max_retries=0, default_headers=headers)
    client.chat.completions.create(model="m", messages=messages, tools=tools or openai.omit)


def test_an_address_says_whose_call_it_is(store: odograph.Store) -> None:
    """Run, group, task, agent, attempt, policy version and purpose stand in the address, and in headers of the same names."""
    path = "/t/r%201/group/g/task/2%2B2/agent/solver/attempt/2/policy/7/purpose/judge"
    with LLMServer([Answer()]) as server, Proxy(store, [server.url]) as proxy:
        talk(proxy, [user("q")], path)
        talk(proxy, [user("q")], "/t/r%201/attempt/3/-")
        talk(proxy, [user("q")], **{"x-odograph-run": "r2", "x-odograph-group": "h"})
        assert server.requests[0][0] == server.requests[2][0] == "/v1/chat/completions"
    judged, again, by_header = store.trajectories()
    (call,) = judged.llm_calls
    assert (judged.metadata["run"], judged.metadata["attempt"], judged.group, judged.task, judged.agent) == (
        "r 1",
        2,
        "g",
        "2+2",
        "solver",
    )
    assert (call.purpose, call.policy_version) == ("judge", 7)
    assert (again.metadata["attempt"], by_header.group, by_header.metadata["run"]) == (3, "h", "r2")


def test_an_address_that_says_nonsense_is_refused(store: odograph.Store) -> None:
    """A prefix without a run, a key without a value, twice the same key, an attempt that is no number: 400, one sentence."""
    with LLMServer([Answer()]) as server, Proxy(store, [server.url]) as proxy:
        for path in (
            "/t//v1/x",
            "/t/r/group",
            "/t/r/group/a/group/b/v1/x",
            "/t/r/attempt/x/v1",
            "/t/%ff/v1",  # and `/t/%fe` would be the same name
            "/t/%20/v1",
            "/t/" + "r" * 300,
            "/t/a%0Ab/v1/x",
        ):
            status, _, data = post(proxy.url, path, b"{}")
            assert (status, json.loads(data)["error"]["type"]) == (400, "odograph_address"), path
        assert not server.requests


def test_steps_and_actions_come_from_the_wire(store: odograph.Store) -> None:
    """Each call is a step; a tool's result that the next request brings is an action of the step that asked, with its call."""
    first, last = Answer(text="", tool_calls=[ask("sh", command="ls"), ask("sh", "call_2", command="rm")]), Answer(text="done")
    with LLMServer([first, last]) as server, Proxy(store, [server.url]) as proxy:
        messages = [SYSTEM, user("tidy up")]
        talk(proxy, messages, "/t/r")
        talk(proxy, [*messages, said(first), result("a.txt"), result("gone", "call_2")], "/t/r")
    t = one(store)
    assert (t.task, t.status, t.end.answer, [s.observation for s in t.steps]) == (
        "tidy up",
        "completed",
        "done",
        ["tidy up", None],
    )
    assert [(a.name, a.arguments, a.result, a.tool_call_id, a.llm_call) for a in t.steps[0].actions] == [
        ("sh", {"command": "ls"}, "a.txt", "call_1", t.llm_calls[0].id),
        ("sh", {"command": "rm"}, "gone", "call_2", t.llm_calls[0].id),
    ]
    assert all(a.started and a.duration is not None for a in t.steps[0].actions)
    assert [f.code for f in odograph.validate(t).findings] == ["reward_missing"]


def test_without_names_calls_go_where_their_messages_belong(store: odograph.Store) -> None:
    """Two agents with the same prompt, interleaved and without any name: each call lands in the trajectory that it goes on with."""
    answers = [Answer(text="", tool_calls=[ask("sh", f"call_{n}", command=str(n))]) for n in (1, 2)]
    with LLMServer([*answers, Answer(text="done")]) as server, Proxy(store, [server.url]) as proxy:
        messages = [SYSTEM, user("go")]
        talk(proxy, messages)
        talk(proxy, messages)
        talk(proxy, [*messages, said(answers[1]), result("two", "call_2")])
        talk(proxy, [*messages, said(answers[0]), result("one", "call_1")])
    a, b = store.trajectories()
    assert [(t.steps[0].actions[0].result, len(t.steps), t.status) for t in (a, b)] == [
        ("one", 2, "completed"),
        ("two", 2, "completed"),
    ]


def test_a_sub_agent_is_in_its_parents_tree(store: odograph.Store) -> None:
    """An agent whose prompt stands in an open tool call is recorded inside that call's action, with steps of its own."""
    spawn = Answer(text="", tool_calls=[ask("spawn", prompt="count the files", subagent_type="counter")])
    with LLMServer([spawn, Answer(text="three"), Answer(text="done")]) as server, Proxy(store, [server.url]) as proxy:
        messages = [SYSTEM, user("how many?")]
        talk(proxy, messages)
        talk(proxy, [{"role": "system", "content": "You count."}, user("count the files")])
        talk(proxy, [*messages, said(spawn), result("three")])
    t = one(store)
    assert [(s.agent, s.index) for s in t.steps] == [(None, 0), ("counter", 0), (None, 1)]
    (action,) = t.steps[0].actions
    assert t.steps[1].record.parent == action.id and action.result == "three"
    assert t.status == "completed" and odograph.validate(t).valid


def test_claude_codes_headers_tell_sessions_and_sub_agents(store: odograph.Store) -> None:
    """Claude Code's headers: one trajectory a session, its sub-agents in it, a title call beside; the body names the session, too."""
    headers = {"x-claude-code-session-id": "s-1", "user-agent": "claude-cli/2.1"}
    spawn = [
        {"type": "tool_use", "id": "t1", "name": "Agent", "input": {"prompt": "Sub: do it", "subagent_type": "general-purpose"}}
    ]
    tools: Any = [{"name": "Agent", "input_schema": {"type": "object"}}]
    answers = [
        spawn,
        [{"type": "text", "text": "sub done"}],
        [{"type": "text", "text": "A title"}],
        [{"type": "text", "text": "done"}],
    ]
    body = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    script = iter(answers)
    with Wire(lambda head, sent: json_answer({**body, "content": next(script)})) as up, Proxy(store, [up.url]) as proxy:
        client = anthropic.Anthropic(base_url=proxy.url, api_key="k", default_headers=headers, max_retries=0)
        asked: Any = [
            {
                "role": "user",
                "content": [{"type": "text", "text": "<system-reminder>x</system-reminder>"}, {"type": "text", "text": "do it"}],
            }
        ]
        make: Any = client.messages.create
        make(model="c", max_tokens=9, messages=asked, tools=tools)
        make(model="c", max_tokens=9, messages=[user("Sub: do it")], tools=tools, extra_headers={"x-claude-code-agent-id": "a-9"})
        make(
            model="c",
            max_tokens=9,
            messages=[user("x")],
            system="Generate a concise, sentence-case title (3-7 words) that captures the goal of this coding session. Be clear.",
            metadata={"user_id": '{"session_id":"s-1"}'},
        )
        failed = [{"type": "tool_result", "tool_use_id": "t1", "content": "sub done", "is_error": True}]
        make(
            model="c",
            max_tokens=9,
            messages=[*asked, {"role": "assistant", "content": spawn}, {"role": "user", "content": failed}],
            tools=tools,
        )
    t = one(store)
    assert (t.agent, t.task, t.metadata["session"]) == ("claude-code", "do it", "s-1")
    assert [(s.agent, s.index) for s in t.steps] == [("claude-code", 0), ("general-purpose", 0), ("claude-code", 1)]
    (action,) = t.steps[0].actions
    assert (t.steps[1].record.parent, action.ok, action.result) == (action.id, False, "sub done")
    assert [c.purpose for c in t.llm_calls] == ["act", "act", "title", "act"]
    assert t.llm_calls[2].step is None and odograph.validate(t).valid


def test_codex_and_opencode_name_their_sessions(store: odograph.Store) -> None:
    """Codex's threads are agents of one session; opencode's title call is in the session of its turns, whose task
    is what the agent is told, though the title call comes first."""
    meta = json.dumps({"session_id": "s", "thread_id": "t2", "agent_name": "/root/helper"})
    answer = {
        "id": "r",
        "object": "response",
        "status": "completed",
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]}],
    }
    with Wire(lambda head, body: json_answer(answer)) as up, Proxy(store, [up.url]) as proxy:
        client = openai.OpenAI(base_url=proxy.url + "/v1", api_key="k")
        client.responses.create(
            model="m", input="q", extra_headers={"session-id": "s", "thread-id": "s", "x-codex-window-id": "w"}
        )
        client.responses.create(
            model="m", input="p", extra_headers={"session-id": "s", "thread-id": "t2", "x-codex-turn-metadata": meta}
        )
    with LLMServer([Answer()]) as server, Proxy(store, [server.url]) as proxy:
        headers = {"x-session-id": "ses_1", "user-agent": "opencode/1.18"}
        talk(proxy, [{"role": "system", "content": "You are a title generator."}, user("<session>fix it")], tools=None, **headers)
        talk(proxy, [SYSTEM, user("fix it")], **headers)
    codex, opencode = store.trajectories()
    assert (codex.agent, [s.agent for s in codex.steps]) == ("codex", ["codex", "helper"])
    assert (opencode.agent, opencode.task, [c.purpose for c in opencode.llm_calls], len(opencode.steps)) == (
        "opencode",
        "fix it",
        ["title", "act"],
        1,
    )
    # that its task came later does not mean that it began later
    assert opencode.started <= opencode.llm_calls[0].time and odograph.validate(opencode).valid


def test_retries_are_one_call(store: odograph.Store) -> None:
    """A request that failed and comes again is one call with its failed attempts, although its headers say that it is no retry."""
    script = [Answer(status=529, text="full"), Answer(status=429, text="slow"), Answer(text="fine"), Answer(text="other")]
    with LLMServer(script) as server, Proxy(store, [server.url]) as proxy:
        client = openai.OpenAI(
            base_url=proxy.url + "/v1", api_key="k", max_retries=0, default_headers={"x-stainless-retry-count": "0"}
        )
        for _ in range(3):
            try:
                client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}])
            except openai.APIStatusError:
                continue
    t = one(store)
    (call,) = t.llm_calls
    assert (call.text, len(t.steps), [r["status_code"] for r in call.extra["retries"]]) == ("fine", 1, [529, 429])


@pytest.mark.parametrize("path", ["/t/r/v1/chat/completions", "/v1/chat/completions"])
def test_a_request_that_is_spelt_anew_is_a_retry(store: odograph.Store, path: str) -> None:
    """A client that makes its request anew for each try: other spaces, another order of keys, new names of the request, compressed, no
    stream any more. Another question, and the same with another setting, are no retries."""
    first = {"model": "m", "messages": [SYSTEM, user("q")], "temperature": 0.5, "tools": TOOLS, "request_id": "1", "stream": True}
    turned = {k: v for k, v in reversed(first.items()) if k != "stream"} | {"request_id": "2"}
    turned["messages"] = [dict(reversed(m.items())) for m in first["messages"]]
    tries = [json.dumps(first), json.dumps(turned, indent=1), json.dumps(first, separators=(",", ":"))]
    others = [json.dumps(first | more) for more in ({"messages": [SYSTEM, user("p")]}, {"temperature": 0.4})]
    answers = iter([[head_of(0, status="529 Full")]] * 5 + [json_answer(chat_body("fine"))])
    with Wire(lambda head, body: next(answers)) as upstream, Proxy(store, [upstream.url]) as proxy:
        for body in [*tries, *others]:
            post(proxy.url, path, body.encode())
        post(proxy.url, path, gzip.compress(tries[1].encode()), content_encoding="gzip")
    calls = [c for t in store.trajectories() for c in t.llm_calls]
    tried = sorted((c.text, [r["status_code"] for r in (c.extra or {}).get("retries", [])]) for c in calls)
    assert tried == [("", []), ("", []), ("fine", [529, 529, 529])]


def test_a_call_that_ran_beside_a_failed_one_is_no_retry(store: odograph.Store) -> None:
    """Three equal calls at once, as samplers make them: two fail, one is answered. Each of the two is repeated, and is one call."""
    asked, gates = json.dumps({"model": "m", "messages": [user("q")]}).encode(), [threading.Event() for _ in range(3)]
    numbers = iter(range(5))

    def script(head: bytes, body: bytes) -> Iterator[bytes]:
        number = next(numbers)
        if number < 3:
            gates[number].wait(60)
        yield from [head_of(0, status="529 Full")] if number < 2 else json_answer(chat_body(str(number)))

    with Wire(script) as upstream, Proxy(store, [upstream.url]) as proxy:
        clients = []
        for number in range(3):
            clients.append(threading.Thread(target=post, args=(proxy.url, "/t/r/v1/chat/completions", asked)))
            clients[-1].start()
            while len(upstream.got) <= number:
                clients[-1].join(0.01)
        for client, gate in zip(clients, gates, strict=True):
            gate.set()
            client.join()
        for _ in range(2):
            post(proxy.url, "/t/r/v1/chat/completions", asked)
    tried = sorted((c.text, [r["status_code"] for r in (c.extra or {}).get("retries", [])]) for c in one(store).llm_calls)
    assert tried == [("2", []), ("3", [529]), ("4", [529])]


def test_a_restarted_proxy_goes_on_where_it_was(store: odograph.Store) -> None:
    """A run that goes on behind another proxy on the same store is one trajectory: the tool's result finds its call."""
    first = Answer(text="", tool_calls=[ask("sh", command="ls")])
    messages = [SYSTEM, user("go")]
    with LLMServer([first, Answer(text="done")]) as server:
        with Proxy(store, [server.url]) as proxy:
            talk(proxy, messages, "/t/r")
        with Proxy(store, [server.url]) as proxy:
            talk(proxy, [*messages, said(first), result("a.txt")], "/t/r")
    t = one(store)
    assert [(s.index, len(s.llm_calls), [a.result for a in s.actions]) for s in t.steps] == [(0, 1, ["a.txt"]), (1, 1, [])]


def test_counting_tokens_is_no_decision(store: odograph.Store) -> None:
    """A call that counts tokens is recorded as that, and is no step."""
    with Wire(lambda head, body: json_answer({"input_tokens": 42})) as up, Proxy(store, [up.url]) as proxy:
        assert post(proxy.url, "/t/r/v1/messages/count_tokens", b'{"model":"c","messages":[]}')[0] == 200
    t = one(store)
    assert ([c.purpose for c in t.llm_calls], len(t.steps)) == (["count"], 0)


def test_an_edited_history_stays_with_its_agent(store: odograph.Store) -> None:
    """In a run, a request that goes on with no other is of the agent with the same system prompt and tools: it edited its history."""
    with LLMServer([Answer(text="one"), Answer(text="two")]) as server, Proxy(store, [server.url]) as proxy:
        talk(proxy, [SYSTEM, user("a"), {"role": "assistant", "content": "x"}, user("b")], "/t/r")
        talk(proxy, [SYSTEM, user("summary of all")], "/t/r")
        talk(proxy, [{"role": "system", "content": "Which model?"}, user("choose")], "/t/r", tools=None)
    t = one(store)
    assert [(s.agent, s.index, s.observation) for s in t.steps] == [(None, 0, ["a", "b"]), (None, 1, "summary of all")]
    assert [c.purpose for c in t.llm_calls] == ["act", "act", "utility"]


@pytest.mark.parametrize("path", ["", "/t/r"])
def test_an_agent_that_tells_the_time_in_its_system_prompt_is_one(store: odograph.Store, path: str) -> None:
    """With a name and without, each of its calls is a step, and has the results of its tools, also where its tools change. Agents
    that say the same with other system prompts stay apart."""
    script = [Answer(text="", tool_calls=[ask("sh", f"call_{n}", command="ls")]) for n in range(2)] + [Answer(text="done")]
    messages = [user("make it")]
    with LLMServer(script) as server, Proxy(store, [server.url]) as proxy:
        for n, answer in enumerate(script):
            talk(proxy, [{"role": "system", "content": f"You work. It is 12:00:0{n}."}, *messages], path, TOOLS[: 1 + n % 2])
            messages += [said(answer), *[result(f"out {n}", call["id"]) for call in answer.tool_calls]]
    t = one(store)
    assert [[a.result for a in s.actions] for s in t.steps] == [["out 0"], ["out 1"], []] and t.status == "completed"

    alike = [[{"role": "system", "content": f"You are {name}."}, user("2+2?")] for name in ("Ann", "Bob")]
    with LLMServer([Answer(text="4")]) as server, Proxy(store, [server.url]) as proxy:
        for _ in range(3):
            for messages in alike:
                talk(proxy, messages, path and "/t/apart", tools=None)
                messages += [{"role": "assistant", "content": "4"}, user("again")]
    calls = [c for other in store.trajectories() if other.id != t.id for s in other.steps for c in s.llm_calls]
    apart = {(c.trajectory, c.agent): [] for c in calls}  # type: ignore[var-annotated]
    for call in calls:
        apart[call.trajectory, call.agent].append(call.request["messages"][0]["content"])
    assert sorted(apart.values()) == [["You are Ann."] * 3, ["You are Bob."] * 3]


@pytest.mark.parametrize("ids", ["their own", "one for all"])
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("path", ["", "/t/r"])
def test_a_history_that_is_cut_gives_each_call_its_result(store: odograph.Store, path: str, restarts: bool, ids: str) -> None:
    """An agent drops old messages and old results. Each tool call has the result that was its own, and not an older one that the
    history still holds, also where a server gives the same id again and again, and behind another proxy."""
    script = [
        Answer(text="", tool_calls=[ask("sh", f"call_{n}" if ids == "their own" else "call", command=f"ls {n}")])
        for n in range(5)
    ]
    messages: list[dict[str, Any]] = []
    with LLMServer([*script, Answer(text="done")]) as server:
        proxy = Proxy(store, [server.url]).__enter__()
        for n, answer in enumerate(script):
            talk(proxy, [SYSTEM, user("make it"), *messages[-4:]], path)
            if restarts:
                proxy.close()
                proxy = Proxy(store, [server.url]).__enter__()
            messages = [m | {"content": "cleared"} if m["role"] == "tool" and n % 2 else m for m in messages]
            messages += [said(answer), result(f"out {n}", answer.tool_calls[0]["id"])]
        talk(proxy, [SYSTEM, user("make it"), *messages[-4:]], path)
        proxy.close()
    t = one(store)
    assert [[a.result for a in s.actions] for s in t.steps] == [*([f"out {n}"] for n in range(5)), []] and t.status == "completed"


@pytest.mark.parametrize("path", ["", "/t/r"])
@pytest.mark.parametrize(("system", "tools"), [("You sum up.", None), ("You work.", None), ("You work.", TOOLS)])
def test_a_call_that_sums_up_brings_results(store: odograph.Store, path: str, system: str, tools: Any) -> None:
    """An agent has its history summed up, and goes on from the summary. The call is in the agent's trajectory, and beside the work if
    it has another system prompt and no tools. The result that it alone holds is the action's."""
    calls = [ask("sh", "call_1", command="ls"), ask("sh", "call_2", command="cat")]
    script = [
        Answer(text="", tool_calls=[calls[0]]),
        Answer(text="A file was made, as was asked."),
        Answer(text="", tool_calls=[calls[1]]),
    ]
    with LLMServer([*script, Answer(text="done")]) as server, Proxy(store, [server.url]) as proxy:
        messages = [user("make it"), said(script[0]), result("made")]
        talk(proxy, [SYSTEM, messages[0]], path)
        talk(proxy, [{"role": "system", "content": system}, *messages, user("Sum it up.")], path, tools=tools)
        messages = [user("So far: A file was made, as was asked. Go on."), said(script[2]), result("read", "call_2")]
        talk(proxy, [SYSTEM, messages[0]], path)
        talk(proxy, [SYSTEM, *messages], path)
    t = one(store)
    beside = system != "You work."
    assert [c.purpose for c in t.llm_calls] == ["act", "utility" if beside else "act", "act", "act"]
    assert [[a.result for a in s.actions] for s in t.steps] == [["made"], *([] if beside else [[]]), ["read"], []]
    assert {s.agent for s in t.steps} == {None}


def test_a_call_beside_no_work_is_over_with_its_answer(store: odograph.Store) -> None:
    """A title, a summary, a count without a conversation are trajectories that have ended."""
    with LLMServer([Answer(text="Tides")]) as server, Proxy(store, [server.url]) as proxy:
        for system in ("You are a title generator.", "Give a summary of the conversation so far."):
            talk(proxy, [{"role": "system", "content": system}, user("tides")], tools=None)
    assert [(t.status, [c.purpose for c in t.llm_calls]) for t in store.trajectories()] == [
        ("completed", ["title"]),
        ("completed", ["compact"]),
    ]


def test_marks_of_caches_change_no_conversation(store: odograph.Store) -> None:
    """Anthropic's cache marks move to the newest message with each call; the conversation stays the same one."""
    marked = {"cache_control": {"type": "ephemeral"}}
    answer = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn"}
    with Wire(lambda head, body: json_answer(answer)) as up, Proxy(store, [up.url]) as proxy:
        first = {"role": "user", "content": [{"type": "text", "text": "one", **marked}]}
        plain = {"role": "user", "content": [{"type": "text", "text": "one"}]}
        second = {"role": "user", "content": [{"type": "text", "text": "two", **marked}]}
        said = {"role": "assistant", "content": "a"}
        for messages in ([first], [plain, said, second]):
            assert post(proxy.url, "/v1/messages", json.dumps({"model": "c", "messages": messages}).encode())[0] == 200
    assert [s.observation for s in one(store).steps] == ["one", "two"]


def test_tool_calls_that_the_agent_names_itself(store: odograph.Store) -> None:
    """Gemini's tool calls have no ids, and its CLI sends them again with ids of its own: results find their calls."""
    call = {"functionCall": {"name": "sh", "args": {"c": 1}}}
    parts = iter([[call, call], [{"text": "done"}]])
    tools = [{"functionDeclarations": [{"name": "sh"}]}]
    path = "/t/r/v1beta/models/g:generateContent"
    with Wire(
        lambda head, body: json_answer(
            {"candidates": [{"content": {"role": "model", "parts": next(parts)}, "finishReason": "STOP"}]}
        )
    ) as up:
        with Proxy(store, [up.url]) as proxy:
            contents: list[Any] = [{"role": "user", "parts": [{"text": "go"}]}]
            post(proxy.url, path, json.dumps({"contents": contents, "tools": tools}).encode())
            named = [{"functionCall": {**call["functionCall"], "id": f"sh_99_{n}"}} for n in range(2)]
            results = [{"functionResponse": {"name": "sh", "id": f"sh_99_{n}", "response": {"n": n}}} for n in range(2)]
            contents += [{"role": "model", "parts": named}, {"role": "user", "parts": results}]
            post(proxy.url, path, json.dumps({"contents": contents, "tools": tools}).encode())
    t = one(store)
    assert [a.result for a in t.steps[0].actions] == [{"n": 0}, {"n": 1}] and t.status == "completed"


def test_calls_of_one_id_have_their_results_in_order(store: odograph.Store) -> None:
    """Some servers give all calls of an answer the same id."""
    calls = [ask("sh", "call", command=name) for name in "abc"]
    with LLMServer([Answer(text="", tool_calls=calls), Answer(text="done")]) as server, Proxy(store, [server.url]) as proxy:
        talk(proxy, [user("go")])
        talk(proxy, [user("go"), said(Answer(text="", tool_calls=calls)), *(result(name, "call") for name in "ABC")])
    assert [(a.arguments["command"], a.result) for a in one(store).actions] == [("a", "A"), ("b", "B"), ("c", "C")]


@pytest.mark.parametrize("ends", [True, False])
def test_an_agent_acts_while_the_stream_of_an_answer_goes_on(store: odograph.Store, ends: bool) -> None:
    """An agent acts on a whole answer whose stream stays open: its next call is recorded behind this one, with the tool's result. What
    the stream brings then is part of the one record; so is nothing, where the agent leaves."""
    asked = {"tool_calls": [{"index": 0, **ask("sh", command="ls")}]}
    began = [
        chat_chunk(None) | {"choices": [{"index": 0, "delta": asked, "finish_reason": None}]},
        chat_chunk(None, "tool_calls"),
    ]
    usage = chat_chunk(None) | {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}}
    goes_on = threading.Event()

    def script(head: bytes, body: bytes) -> Iterator[bytes]:
        if b'"tool"' in body:
            yield from json_answer(chat_body("done"))
            return
        yield head_of(None, "text/event-stream")
        yield from map(chunk, events(began, done=False))
        goes_on.wait(60)
        yield from [*map(chunk, events([usage])), END]

    messages = [SYSTEM, user("tidy up")]
    with Wire(script) as upstream, Proxy(store, [upstream.url]) as proxy:
        client = openai.OpenAI(base_url=proxy.url + "/v1", api_key="k", max_retries=0)
        stream = client.chat.completions.create(model="m", messages=messages, tools=TOOLS, stream=True)
        next(event for event in stream if event.choices[0].finish_reason)
        talk(proxy, [*messages, {"role": "assistant", "tool_calls": [ask("sh", command="ls")]}, result("a.txt")])
        if ends:
            goes_on.set()
            assert [event.usage.completion_tokens for event in stream if event.usage] == [5]
        else:
            stream.close()
            goes_on.set()
    t = one(store)
    first, second = t.llm_calls
    assert [s.observation for s in t.steps] == ["tidy up", None] and second.text == "done"
    assert [(a.name, a.result, a.llm_call) for a in t.steps[0].actions] == [("sh", "a.txt", first.id)]
    assert (first.error, first.response["usage"] if ends else None) == (None, usage["usage"] if ends else None)
    assert len(first.record.events["rows"]) == 2 + ends
