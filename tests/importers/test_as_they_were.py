"""Sessions as they were: what the model saw, one tree of agents, forks that share their history, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.types import Action, LLMCall, Note, Start, StepStart

from . import agents
from .scaffold import of, one, read
from .test_growing import (
    CLAUDE,
    CODEX,
    EXEC,
    GEMINI,
    GEMINI_NEW,
    GEMINI_RESUMED,
    QWEN,
    STREAM,
    T,
    call,
    cc,
    codex,
    counts,
    result,
    said,
    use,
)


def lines(path: Path, values: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(v) + "\n" for v in values))
    return path


def prompts(session: Any) -> list[str]:
    """The prompt of each call, as one text."""
    calls = of(LLMCall, session)
    return [json.dumps([*(c.request.get("messages") or c.request.get("input") or [])]) for c in calls if c.request]


def test_claude_code_prompts_are_the_branch(tmp_path: Path) -> None:
    """A prompt that goes back leaves its branch, a compaction keeps what it says it keeps, what was typed meanwhile is sent."""
    session = one("claude-code", lines(tmp_path / "a.jsonl", CLAUDE))
    sent = dict(zip([c.extra["uuid"] for c in of(LLMCall, session) if c.extra], prompts(session), strict=True))
    assert "a tight one" in sent["u7"]
    assert "rope" in sent["u7"]
    assert "by the door" in sent["u11"]
    assert "a loop" in sent["u14"]
    assert "a bow" not in sent["u14"]
    assert "Looped" in sent["u17"] and "So far: knots" in sent["u17"] and "Tied" not in sent["u17"]
    assert of(Start, session)[0].task == "Tie a knot"
    unanswered = [n.data["messages"][0]["content"] for n in of(Note, session) if n.name == "unanswered"]
    assert unanswered == ["Now a bow", "Enough"]


def test_chains_that_break_for_other_reasons_leave_no_branch(tmp_path: Path) -> None:
    """Results of parallel tools hang on two lines; a prompt that hangs on the first of them was sent the second, too."""
    values = [
        cc(1, "user", "Weigh both", None),
        cc(2, "assistant", use("t1"), reply="m"),
        cc(3, "assistant", use("t2"), reply="m"),
        cc(4, "user", result("t1", "an ounce"), "u2"),
        cc(5, "user", result("t2", "a stone"), "u3"),
        cc(6, "user", "Hurry", "u4"),
        cc(7, "assistant", "Both weighed"),
    ]
    session = one("claude-code", lines(tmp_path / "a.jsonl", values))
    assert "a stone" in prompts(session)[-1]


def test_a_prompt_that_hangs_on_a_sub_agent_stays_in_its_own_conversation(tmp_path: Path) -> None:
    """What a side chain hangs on, or what hangs on one, is no branch: each agent has its own history."""
    values = [
        cc(1, "user", "Weigh it", None),
        cc(2, "assistant", use("t1", "Task", prompt="fetch scales")),
        cc(3, "user", "fetch scales", "u2", isSidechain=True),
        cc(4, "assistant", "fetched", isSidechain=True),
        cc(5, "user", "Well", "u4"),
        cc(6, "assistant", "Weighed"),
    ]
    side, main = prompts(one("claude-code", lines(tmp_path / "a.jsonl", values)))[1:]
    assert "Weigh it" not in side
    assert "Weigh it" in main and "fetch scales" in main and "fetched" not in main


def agent_lines(id: str) -> list[dict[str, Any]]:
    more = {"isSidechain": True, "agentId": id}
    task = {**cc(20, "user", "find twine", None), **more, "uuid": f"{id}-1"}
    return [task, {**cc(21, "assistant", use("x1", "Grep"), f"{id}-1"), **more, "uuid": f"{id}-2"}]


MAIN = [
    cc(1, "user", "Tie a knot", None),
    cc(2, "assistant", use("t9", "Agent", prompt="find twine", subagent_type="Explore")),
    cc(3, "user", result("t9", "by the door"), toolUseResult={"agentId": "ab1", "totalDurationMs": 1500}),
    cc(4, "assistant", "Tied"),
]


@pytest.mark.parametrize("layout", ["folder", "beside", "progress"])
def test_claude_code_sub_agents_are_of_the_session(tmp_path: Path, layout: str) -> None:
    """A sub-agent's file, in either layout, and the progress lines of older versions: one tree, under the call that started it."""
    values = MAIN
    if layout == "folder":
        agent = lines(tmp_path / "s" / "subagents" / "agent-ab1.jsonl", agent_lines("ab1"))
        agent.with_suffix(".meta.json").write_text('{"agentType": "Explore", "toolUseId": "t9"}')
    elif layout == "beside":
        lines(tmp_path / "agent-ab1.jsonl", agent_lines("ab1"))
    else:
        inner = [{"type": "progress", "uuid": f"p{n}", "sessionId": "s", "parentToolUseID": "t9", "timestamp": T.format(2),
                  "data": {"type": "agent_progress", "agentId": "ab1", "message": line}} for n, line in enumerate(agent_lines("ab1"))]  # fmt: skip
        values = [*MAIN[:2], *inner, *MAIN[2:]]
    path = lines(tmp_path / "s.jsonl", values)
    with odograph.open("memory:") as store:
        report = store.import_sessions(tmp_path)
        assert (report.failed, len(store)) == ([], 1)
        (t,) = store.trajectories()
        started, grep = t.actions
        assert started.duration == 1_500_000_000
        inside = [r for r in t.records if r.agent and r.parent == started.id]
        assert inside
        assert str(grep.agent).startswith(("Explore", "agent"))
        assert len(t.llm_calls) == 3
        assert store.import_sessions(tmp_path).imported == 0
        if layout == "folder":  # the sub-agent's file alone leads to its session
            assert store.import_sessions(path.with_suffix("") / "subagents" / "agent-ab1.jsonl").skipped == 1


@pytest.mark.parametrize("how", ["same uuids", "forkedFrom", "the file's own name"])
def test_claude_code_forks_share_their_history(tmp_path: Path, how: str) -> None:
    """A session that begins with another's lines is its fork: the shared part is in its prompts, and counted once."""
    ours = [cc(1, "user", "Name a knot", None), cc(2, "assistant", "Bowline")]
    lines(tmp_path / "s.jsonl", [*ours, cc(3, "user", "Another"), cc(4, "assistant", "Hitch")])
    more = [{**cc(13, "user", "Spell it", "u2"), "sessionId": "z"}, {**cc(14, "assistant", "B-o-w"), "sessionId": "z"}]
    if how == "forkedFrom":
        begun = [{**v, "sessionId": "z", "forkedFrom": {"sessionId": "s", "messageUuid": v["uuid"]}} for v in ours]
    else:
        begun = ours if how == "the file's own name" else [{**v, "sessionId": "z"} for v in ours]
    lines(tmp_path / ("z.jsonl" if how == "the file's own name" else "other.jsonl"), [*begun, *more])
    with odograph.open("memory:") as store:
        assert store.import_sessions(tmp_path).failed == []
        parent, fork = sorted(store.trajectories(), key=lambda t: t.start is not None and t.start.fork is not None)
        assert fork.start is not None and fork.start.fork is not None
        assert (fork.start.fork.trajectory, fork.start.fork.step) == (parent.id, 1)  # the step that it begins with
        assert odograph.validate(fork).findings == []
        assert [s.index for s in fork.steps] == [1]
        assert [len(parent.llm_calls), len(fork.llm_calls), fork.task] == [2, 1, "Spell it"]
        assert [m["content"] for m in fork.llm_calls[0].messages] == ["Name a knot", "Bowline", "Spell it"]


def test_a_folder_with_young_and_foreign_files_does_not_fail(tmp_path: Path) -> None:
    """Files in which no session has begun, and files of others, are passed over; named alone, they are refused."""
    lines(tmp_path / "s.jsonl", MAIN)
    young = lines(
        tmp_path / "young.jsonl", [{"type": "system", "subtype": "x", "uuid": "u", "parentUuid": None, "sessionId": "y"}]
    )
    lines(tmp_path / "c.jsonl", [codex("session_meta", 0, id="c", timestamp=T.format(0))])
    (tmp_path / "memory.md").write_text("remember")
    with odograph.open("memory:") as store:
        assert store.import_sessions(tmp_path).failed == []
        assert "without a message" in store.import_sessions(young).failed[0]["error"]
        (t,) = store.trajectories()
        assert odograph.validate(t).findings == []  # a person who just stopped is no defect


def test_codex_prompts_and_outcomes(tmp_path: Path) -> None:
    """A rolled back turn is in no later prompt, a compaction keeps the prompts and its summary, exit codes say how it went."""
    session = one("codex", lines(tmp_path / "a.jsonl", [*CODEX, said(14, "Bye", "assistant"), counts(14, 60)]))
    last_but_one, last = prompts(session)[-2:]
    assert "the stones" not in last_but_one and "driftwood then" in last_but_one
    assert "shells and driftwood" in last and "Sort the shells" in last and "Done" not in last
    assert [(a.ok, a.duration) for a in of(Action, session)] == [(False, 1_000_000_005), (None, None)]


@pytest.mark.parametrize("there", [True, False])
def test_codex_history_that_lies_in_another_file(tmp_path: Path, there: bool) -> None:
    """A fork that refers to its parent's file has its history from there, up to where it left; without the file it says so."""
    parent, fork = "019d0000-0000-7000-8000-0000000000a1", "019d0000-0000-7000-8000-0000000000a2"
    first = [codex("session_meta", 0, id=parent, timestamp=T.format(0)), said(1, "Plant beans"), said(2, "Planted", "assistant"), counts(2, 10), said(3, "Too late")]  # fmt: skip
    if there:
        lines(tmp_path / f"rollout-{parent}.jsonl", [{**v, "ordinal": n} for n, v in enumerate(first)])
    base = {"thread_id": parent, "end_ordinal_exclusive": 4}
    own = [codex("session_meta", 9, id=fork, timestamp=T.format(9), forked_from_id=parent, history_base=base), said(10, "Water them"), said(11, "Watered", "assistant"), counts(11, 20)]  # fmt: skip
    session = one("codex", lines(tmp_path / f"rollout-{fork}.jsonl", own))
    start = of(Start, session)[0]
    assert start.fork is not None
    assert start.task == "Water them"
    (sent,) = prompts(session)
    assert ("Planted" in sent, "Too late" in sent) == (there, False)
    assert [n.name for n in of(Note, session)] == ([] if there else ["history_missing"])
    if there:
        assert start.fork.trajectory == one("codex", tmp_path / f"rollout-{parent}.jsonl").id


def test_codex_fork_whose_turn_begins_in_the_same_second(tmp_path: Path) -> None:
    """What a sub-agent repeats of its parent is told from its own first turn, which may begin before the clock moved on."""
    parent, child = "019d0000-0000-7000-8000-0000000000b1", "019d0000-0000-7000-8000-0000000000b2"
    values = [
        codex("session_meta", 5, id=child, timestamp=T.format(5), forked_from_id=parent),
        codex("session_meta", 5, id=parent, timestamp=T.format(0)),
        codex("turn_context", 5, model="m"), said(5, "Plant beans"), call(5, "c1"), counts(5, 10),
        codex("turn_context", 5, model="m"), said(5, "What is loam"),
        said(8, "Soil", "assistant"), counts(8, 25),
    ]  # fmt: skip
    session = one("codex", lines(tmp_path / "r.jsonl", values))
    start = of(Start, session)[0]
    assert (start.task, len(of(LLMCall, session)), of(Action, session)) == ("What is loam", 1, [])
    assert start.metadata["source"]["totals"] == {"prompt_tokens": 15, "completion_tokens": 0}


def test_gemini_and_qwen(tmp_path: Path) -> None:
    """The last version of a message counts; rewound and replaced messages are in no later prompt; Qwen is not Claude."""
    more = [*GEMINI, {"id": "g11", "timestamp": T.format(11), "type": "gemini", "content": "On", "model": "gem"}]
    gemini = one("gemini-cli", lines(tmp_path / "g.jsonl", more))
    sent = prompts(gemini)
    assert len(sent) == 5
    assert "moss" in sent[1]
    assert "behind it" not in sent[3] and "above it" in sent[3]
    assert "So far" in sent[4] and "above it" not in sent[4]
    (action,) = of(Action, gemini)
    assert action.ok is True
    path = lines(tmp_path / "q.jsonl", QWEN)
    found = odograph.importers.recognise(path)
    assert found is not None and found.NAME == "qwen-code"
    qwen = one("qwen-code", path)
    assert "the other" not in prompts(qwen)[-1] and "sweep" in prompts(qwen)[-1]
    assert (of(Action, qwen)[0].result, of(LLMCall, qwen)[0].reasoning) == ("clipped", "hm")


@pytest.mark.parametrize(
    "said", ["Got it. Thanks for the additional context!", [{"text": "Got it. Thanks for the additional context!"}]]
)
def test_what_gemini_puts_in_the_models_place_is_no_call(tmp_path: Path, said: Any) -> None:
    """The answer that the program writes behind a summary is part of later prompts, and no call of the model."""
    replaced = [*GEMINI[-3]["$set"]["messages"], {"id": "g20", "timestamp": T.format(9), "type": "gemini", "content": said}]
    more = {"id": "g21", "timestamp": T.format(11), "type": "gemini", "content": "On", "model": "gem"}
    path = tmp_path / "g.jsonl"
    session = one("gemini-cli", lines(path, [*GEMINI[:-3], {"$set": {"messages": replaced}}, *GEMINI[-2:], more]))
    last = of(LLMCall, session)[-1]
    assert len(of(LLMCall, session)) == len(of(StepStart, session)) == 5
    assert last.request is not None
    assert [m["content"] for m in last.request["messages"]] == [
        "So far: moss, sky",
        "Got it. Thanks for the additional context!",
        "Go on",
    ]
    assert [n.name for n in of(Note, session)] == ["rewind", "gemini", "info"]
    generated = {**replaced[-1], "model": "gem", "tokens": {"input": 1, "output": 1}}
    replaced[-1] = generated
    assert (
        len(of(LLMCall, one("gemini-cli", lines(path, [*GEMINI[:-3], {"$set": {"messages": replaced}}, *GEMINI[-2:], more]))))
        == 6
    )


def test_a_task_is_without_the_files_that_it_names(tmp_path: Path) -> None:
    """What Gemini CLI and Qwen Code read of the files in a prompt is sent with it, and is not what the person asked."""
    read = [
        {"text": "Clip @a.txt"},
        {"text": "\n--- Content from referenced files ---"},
        {"text": "\nContent from @a.txt:\n"},
        {"text": "moss"},
    ]
    whole = "".join(part["text"] for part in read)
    shown = {**GEMINI[1], "content": [{"text": "the template"}], "displayContent": [{"text": "Clip @a.txt"}]}
    for asked in ({**GEMINI[1], "content": read}, {**GEMINI[1], "content": whole}, shown):
        session = one("gemini-cli", lines(tmp_path / "g.jsonl", [GEMINI[0], asked, *GEMINI[2:]]))
        assert of(Start, session)[0].task == "Clip @a.txt"
        assert ("moss" in prompts(session)[0]) is (asked is not shown)
    session = one("qwen-code", lines(tmp_path / "q.jsonl", [{**QWEN[0], "message": {"role": "user", "parts": read}}, *QWEN[1:]]))
    assert of(Start, session)[0].task == "Clip @a.txt"
    assert "moss" in prompts(session)[0]


def test_chat_lines_of_any_kind(tmp_path: Path) -> None:
    """The older function_call is an action; an empty first row costs itself; a thread of Amp is no chat of OpenAI."""
    asked = {"role": "assistant", "content": None, "function_call": {"name": "tide", "arguments": '{"at": "Leith"}'}}
    row = {"messages": [{"role": "user", "content": "Tide?"}, asked, {"role": "function", "name": "tide", "content": "ebb"}, {"role": "assistant", "content": "Ebb"}]}  # fmt: skip
    path = lines(tmp_path / "a.jsonl", [{"messages": []}, row])
    assert odograph.importers.recognise(path) is not None
    (session,) = read("openai-chat", path)
    assert [(a.name, a.arguments, a.result) for a in of(Action, session)] == [("tide", {"at": "Leith"}, "ebb")]
    assert session.warnings["rows of another shape before this one"] == 1
    amp = {"v": 1, "id": "T-1", "messages": [{"role": "user", "messageId": 0, "content": [{"type": "text", "text": "hi"}]}]}
    found = odograph.importers.recognise(lines(tmp_path / "other.jsonl", [amp]))
    assert found is not None and found.NAME == "amp"


def test_harbor_trials_have_their_verdict(tmp_path: Path) -> None:
    """A trial's rewards, task and exception are in its trajectory; a trial whose agent wrote nothing is known by them alone."""
    trial = tmp_path / "job" / "dig__1"
    (trial / "verifier").mkdir(parents=True)
    (trial / "verifier" / "reward.txt").write_text("0.5\n")
    about = {"task_name": "dig", "trial_name": "dig__1", "started_at": T.format(0), "agent_info": {"name": "spade"}}
    (trial / "result.json").write_text(json.dumps({**about, "exception_info": {"exception_type": "AgentTimeoutError"}}))
    with odograph.open("memory:") as store:
        assert store.import_sessions(tmp_path).failed == []
        (t,) = store.trajectories()
        assert (t.status, t.reward, t.group, t.agent) == ("timeout", 0.5, "dig", "spade")


def test_inspect_counts_cached_tokens_once(tmp_path: Path) -> None:
    """Providers that leave cached tokens out of the input are told from those that do not by their total."""
    from odograph.importers.formats.inspect_calls import prompt_tokens_of

    usage = {"input_tokens": 100, "output_tokens": 5, "input_tokens_cache_read": 40}
    assert prompt_tokens_of({**usage, "total_tokens": 105}, "openai/x") == 100
    assert prompt_tokens_of({**usage, "total_tokens": 145}, "anything") == 140
    assert prompt_tokens_of(usage, "anthropic/claude-x") == 140


def test_a_run_without_a_reply_keeps_what_was_said(tmp_path: Path) -> None:
    """Of a run that failed before its first reply, the system prompt, the tools and the person's words are kept."""
    folder = tmp_path / "conv" / "events"
    folder.mkdir(parents=True)
    (folder / "event-00000-a.json").write_text(json.dumps({"kind": "SystemPromptEvent", "id": "a", "timestamp": T.format(0), "source": "agent", "system_prompt": {"text": "You weave"}, "tools": [{"name": "loom"}]}))  # fmt: skip
    (folder / "event-00001-b.json").write_text(json.dumps({"kind": "MessageEvent", "id": "b", "timestamp": T.format(1), "source": "user", "llm_message": {"role": "user", "content": "Weave"}}))  # fmt: skip
    session = one("openhands", tmp_path / "conv")
    (note,) = of(Note, session)
    assert "You weave" in json.dumps(note.data) and "loom" in json.dumps(note.data) and "Weave" in json.dumps(note.data)


@pytest.mark.parametrize("named", [True, False])
def test_sub_agents_of_sub_agents_and_of_workflows(tmp_path: Path, named: bool) -> None:
    """A sub-agent's own sub-agent is inside of the call that started it, under its kind, and stands before what came of that call,
    where the result names the sub-agent; a workflow's files lie in a folder deeper."""

    def of_agent(agent: str, *found: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**line, "isSidechain": True, "agentId": agent} for line in found]

    main = [
        cc(1, "user", "Tie both", None),
        cc(2, "assistant", use("t1", "Task", prompt="the left", subagent_type="Explore")),
        cc(3, "user", result("t1", "tied"), **({"toolUseResult": {"agentId": "a1"}} if named else {})),
        cc(4, "assistant", "Both"),
    ]
    inner = use("t2", "Task", prompt="the end of it", subagent_type="Plan")
    asked = [cc(11, "user", "the left", None), cc(12, "assistant", inner)]
    so = cc(13, "user", result("t2", "so"), **({"toolUseResult": {"agentId": "b2"}} if named else {}))
    left = of_agent("a1", *asked, so, cc(14, "assistant", "tied"))
    end = of_agent("b2", cc(21, "user", "the end of it", None), cc(22, "assistant", "so"))
    path = lines(tmp_path / "s.jsonl", main)
    lines(tmp_path / "s" / "subagents" / "agent-a1.jsonl", left)
    deep = lines(tmp_path / "s" / "subagents" / "workflows" / "w1" / "agent-b2.jsonl", end)
    session = one("claude-code", path)
    assert one("claude-code", deep).id == session.id
    calls = {c.agent: c for c in of(LLMCall, session)}
    assert set(calls) == {None, "Explore-a1", "Plan-b2"}
    by_id = {r.id: r for r in session.records}
    starters = {agent: by_id[by_id[c.parent].parent] for agent, c in calls.items() if agent}
    assert {agent: a.tool_call_id for agent, a in starters.items()} == {"Explore-a1": "t1", "Plan-b2": "t2"}
    if named:
        assert [c.agent for c in of(LLMCall, session)] == [None, "Explore-a1", "Plan-b2", "Explore-a1", None]


@pytest.mark.parametrize(
    "attachment",
    [
        {"type": "selected_lines_in_ide", "filename": "f", "content": "the third knot"},
        {"type": "mcp_instructions_delta", "addedBlocks": ["the third knot"]},
        {"type": "async_hook_response", "response": {"hookSpecificOutput": {"additionalContext": "the third knot"}}},
        {"type": "async_hook_response", "response": {"systemMessage": "the third knot"}},
        {"type": "hook_stopped_continuation", "hookName": "Stop", "message": "the third knot"},
        {"type": "invoked_skills", "skills": [{"name": "knots", "content": "the third knot"}]},
        {"type": "relevant_memories", "memories": [{"path": "m", "content": "the third knot"}]},
        {"type": "todo", "content": [{"content": "the third knot", "status": "pending"}], "itemCount": 1},
    ],
    ids=lambda a: str(a["type"]),
)
def test_what_was_attached_is_in_the_next_prompt(tmp_path: Path, attachment: dict[str, Any]) -> None:
    """What the person selected, what servers explain and what a hook found out later was sent with the next request."""
    values = [cc(1, "user", "Tie", None), cc(2, "attachment", None, attachment=attachment), cc(3, "assistant", "Tied")]
    (sent,) = prompts(one("claude-code", lines(tmp_path / "a.jsonl", values)))
    assert "the third knot" in sent


@pytest.mark.parametrize("kind", ["command_permissions", "structured_output", "hook_non_blocking_error", "dynamic_skill"])
def test_attachments_that_no_model_is_told(tmp_path: Path, kind: str) -> None:
    values = [
        cc(1, "user", "Tie", None),
        cc(2, "attachment", None, attachment={"type": kind, "content": "knot"}),
        cc(3, "assistant", "Tied"),
    ]
    (sent,) = prompts(one("claude-code", lines(tmp_path / "a.jsonl", values)))
    assert "knot" not in sent


def test_an_embedded_sub_agent_is_inside_of_the_call_that_started_it(tmp_path: Path) -> None:
    """In ATIF the result of a tool call says which embedded trajectory it started."""
    asked = [{"tool_call_id": "c", "function_name": "delegate", "arguments": {}}]
    seen = {"results": [{"source_call_id": "c", "content": "told", "subagent_trajectory_ref": [{"trajectory_id": "child"}]}]}
    steps = [
        {"step_id": 1, "source": "user", "message": "Find it"},
        {"step_id": 2, "source": "agent", "message": "", "tool_calls": asked, "observation": seen},
    ]
    agent = {"name": "lead", "version": "1"}
    child = {
        "trajectory_id": "child",
        "agent": {"name": "scout", "version": "1"},
        "steps": [{"step_id": 1, "source": "agent", "message": "found"}],
    }
    whole = {"schema_version": "ATIF-v1.7", "agent": agent, "steps": steps, "subagent_trajectories": [child]}
    path = tmp_path / "trajectory.json"
    path.write_text(json.dumps(whole))
    session = one("atif", path)
    (started,) = of(Action, session)
    by_id = {r.id: r for r in session.records}
    (call,) = (c for c in of(LLMCall, session) if c.agent)
    assert by_id[call.parent].parent == started.id


def test_a_codex_call_sees_the_results_that_came_before_it(store: odograph.Store, tmp_path: Path) -> None:
    """In files that do not tell where calls end, an answer behind the results of all tools that were asked for is another call."""
    items = [
        {"id": "old-0001-codex", "timestamp": "2025-05-01T10:00:00Z", "instructions": None},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Row"}]},
        {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "c1"},
        {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "c2"},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {"type": "function_call_output", "call_id": "c2", "output": "two"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Rowed"}]},
    ]
    path = tmp_path / "rollout.jsonl"
    path.write_text("".join(json.dumps(i) + "\n" for i in items))
    store.import_sessions(path)
    (t,) = store.trajectories()
    asked, answered = t.llm_calls
    assert (len(asked.choices[0].tool_calls), answered.text) == (2, "Rowed")
    assert [m["content"] for m in answered.messages if m["role"] == "tool"] == ["one", "two"]


def test_replies_that_share_an_id_are_two(tmp_path: Path) -> None:
    """A server that gives each of its replies the same id: the replies are told apart by how they stopped."""
    values = [
        cc(1, "user", "Weigh it", None),
        cc(2, "assistant", use("t1", c="scales"), reply="msg_1"),
        cc(3, "user", result("t1", "an ounce")),
        cc(4, "assistant", [{"type": "text", "text": "An ounce"}], reply="msg_1"),
    ]
    values[1]["message"]["stop_reason"] = "tool_use"
    session = one("claude-code", lines(tmp_path / "a.jsonl", values))
    asked, told = of(LLMCall, session)
    assert "an ounce" in json.dumps([*told.request["messages"]]) and "scales" in json.dumps(asked.response)
    assert told.completion_tokens == 4


def test_the_task_of_a_stream_is_not_a_sub_agents(tmp_path: Path) -> None:
    """A stream does not say what the person asked: what a sub-agent was asked does not take its place. The tokens of a stream are
    those of its result, which counts what its lines do not."""
    said = {
        "type": "user",
        "session_id": "s",
        "uuid": "x",
        "parent_tool_use_id": "t1",
        "message": {"role": "user", "content": "sew it"},
    }
    used = {"m": {"inputTokens": 4, "cacheReadInputTokens": 10, "cacheCreationInputTokens": 0, "outputTokens": 7}}
    values = [*STREAM[:2], said, *STREAM[2:-1], {**STREAM[-1], "modelUsage": used}]
    with odograph.open("memory:") as store:
        store.import_sessions(lines(tmp_path / "a.jsonl", values))
        (found,) = store.summaries()
        assert (found.task, found.prompt_tokens, found.completion_tokens) == (None, 14, 7)


def test_what_codex_exec_says_of_itself_is_no_turn(tmp_path: Path) -> None:
    """Errors of the program, before the first turn too, are notes: no reply of the model, and no step."""
    wrong = {"type": "item.completed", "item": {"id": "e0", "type": "error", "message": "no metadata"}}
    with odograph.open("memory:") as store:
        store.import_sessions(lines(tmp_path / "a.jsonl", [EXEC[0], wrong, *EXEC[1:]]))
        (t,) = store.trajectories()
        assert ([s.index for s in t.steps], [n.data["message"] for n in t.notes]) == ([0], ["no metadata"])


def test_newer_codex_counts_at_the_end_of_a_reply(tmp_path: Path) -> None:
    """`token_usage_record` ends a reply and names it; the `token_count` behind the tool's output counts nothing again. An item that
    says a message again is left out, and a command's item has its exit code."""
    usage = {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10}
    command = {"type": "CommandExecution", "id": "c1", "exit_code": 3, "duration": {"secs": 2, "nanos": 0}}
    values = [
        *CODEX[:3],
        codex("event_msg", 1, type="item_completed", item={"type": "UserMessage", "id": "i", "content": []}),
        call(2, "c1"),
        codex("token_usage_record", 2, response_id="resp_1", usage=usage, thread_token_usage=usage),
        codex("event_msg", 3, type="item_completed", item=command),
        codex("response_item", 3, type="function_call_output", call_id="c1", output="x"),
        counts(4, 10),
        said(5, "Sorted", "assistant"),
        counts(6, 20),
    ]
    session = one("codex", lines(tmp_path / "a.jsonl", values))
    asked, told = of(LLMCall, session)
    assert [c.prompt_tokens for c in (asked, told)] == [8, 8] and (asked.extra or {})["llm_response_id"] == "resp_1"
    (ran,) = of(Action, session)
    assert (ran.ok, ran.duration, ran.result) == (False, 2_000_000_000, "x")
    assert [n.data["item"]["type"] for n in of(Note, session) if n.name == "item_completed"] == ["CommandExecution"]


def test_a_result_that_is_a_message_too_is_sent_once(tmp_path: Path) -> None:
    """Newer Gemini CLI writes what a tool gave as a message beside the call: the model was sent it once. A result that stands in the
    message alone is the action's."""
    session = one("gemini-cli", lines(tmp_path / "c.jsonl", GEMINI_NEW))
    sent = of(LLMCall, session)[1].request["messages"]
    assert [(m["role"], m["content"]) for m in sent[2:]] == [("tool", "moss"), ("tool", "no such stone"), ("user", "Hurry")]
    assert [(a.tool_call_id, a.ok, a.error) for a in of(Action, session)] == [("k1", True, None), ("k2", False, "no such stone")]
    assert of(StepStart, session)[1].observation == [{"text": "Hurry"}]


@pytest.mark.parametrize("named", [True, False])
def test_a_copilot_sub_agent_has_a_conversation_of_its_own(store: odograph.Store, tmp_path: Path, named: bool) -> None:
    """What a sub-agent of Copilot was sent and said stands inside the call that started it and in no prompt of the session's own;
    older versions name the call alone. Thoughts are sent again, until the session is resumed."""
    values = (
        agents.COPILOT_TREE
        if named
        else [{k: v for k, v in e.items() if k != "agentId"} for e in agents.COPILOT_TREE[:5] + agents.COPILOT_TREE[7:]]
    )
    store.import_sessions(lines(tmp_path / "events.jsonl", values))
    (t,) = store.trajectories()
    task, bash = t.actions
    own, inner = ([c for c in t.llm_calls if (c.agent == task.agent) is which] for which in (True, False))
    assert [c.text for c in own] == ["", "Raised", "Lowered"] and [c.text for c in inner] == ["", "hemp it is"]
    assert {s.record.parent for s in t.steps if s.agent == bash.agent} == {task.id} and bash.agent.startswith("scout-")
    assert [m["role"] for m in own[1].messages] == ["user", "assistant", "tool"]
    assert [m["role"] for m in inner[1].messages] == (["system", "user"] if named else []) + ["assistant", "tool"]
    assert own[1].messages[1]["reasoning_content"] == "who helps"
    assert not any("reasoning_content" in m for m in own[2].messages)


def test_a_resumed_gemini_session(store: odograph.Store, tmp_path: Path) -> None:
    """A resumed session of Gemini CLI is written again with thoughts and calls as parts, the results of all calls of a reply with
    each, and a context that says something else: a thought is no answer, each call keeps its own result, earlier prompts stay."""
    lines(tmp_path / "chats" / "session-1.jsonl", GEMINI_RESUMED)
    lines(tmp_path / "chats" / "session-2.jsonl", [{**GEMINI_RESUMED[0], "startTime": T.format(9)}, GEMINI_RESUMED[1]])
    report = store.import_sessions(tmp_path)
    (t,) = store.trajectories()
    assert (report.failed, [Path(p).name for p in report.unrecognised]) == ([], ["session-2.jsonl"])
    assert [c.text for c in t.llm_calls] == ["I dig.", "Dug", "Deep"] and t.llm_calls[0].reasoning == "Where\nto dig"
    assert [(a.ok, len(a.result)) for a in t.actions] == [(True, 1), (False, 1)]
    assert ["hole" in json.dumps(c.messages) for c in t.llm_calls] == [False, False, True]
    assert [m["content"] for m in t.llm_calls[1].messages if m["role"] == "tool"] == [
        "Output: sand",
        "Output: none\nExit Code: 3",
    ]


def test_codex_messages_of_other_agents(tmp_path: Path) -> None:
    """What another agent sent to a Codex thread is part of the next prompt, and no note; a snapshot in a history never was sent."""
    told = {"type": "agent_message", "id": "am", "author": "/root/rev", "content": [{"type": "input_text", "text": "a leak"}]}
    kept = [{"type": "ghost_snapshot", "ghost_commit": {}}, {"type": "compaction", "encrypted_content": "E"}, told]
    values = [
        *CODEX[:1],
        said(1, "Sail"),
        said(2, "Sailing", "assistant"),
        counts(2, 10),
        codex("response_item", 3, **told),
        said(4, "Mending", "assistant"),
        counts(4, 20),
        codex("compacted", 5, message="", replacement_history=kept),
        said(6, "On"),
        said(7, "Aye", "assistant"),
        counts(7, 30),
    ]
    session = one("codex", lines(tmp_path / "r.jsonl", values))
    sent = prompts(session)
    assert ["a leak" in p for p in sent] == [False, True, True] and "ghost_commit" not in sent[2]
    assert not any("agent_message" in n.name for n in of(Note, session))


def test_messages_of_a_thread_have_whose_they_are(store: odograph.Store, tmp_path: Path) -> None:
    """In a prompt of Codex, another agent's message is text in a person's place, and a compaction is the model's own."""
    kept = [{"type": "compaction", "encrypted_content": "E"}, {"type": "agent_message", "content": [{"type": "input_text", "text": "a leak"}]}]  # fmt: skip
    values = [CODEX[0], said(1, "Sail"), codex("compacted", 2, message="", replacement_history=kept), said(3, "Aye", "assistant")]
    store.import_sessions(lines(tmp_path / "r.jsonl", values))
    (t,) = store.trajectories()
    assert [(m["role"], m["content"]) for m in t.llm_calls[0].messages] == [
        ("assistant", [kept[0]]),
        ("user", "a leak"),
    ]


SUB = [cc(3, "user", "find twine", None, isSidechain=True, agentId="aa"), cc(4, "assistant", "by the door", isSidechain=True, agentId="aa")]  # fmt: skip


@pytest.mark.parametrize(
    "main", [b'{"type":"user","uuid":"u1","sess\n{"half\n', b'{"type":"summary","summary":"x","leafUuid":"z"}\n']
)
def test_a_damaged_session_hides_no_sub_agents(store: odograph.Store, tmp_path: Path, main: bytes) -> None:
    """Where a session's own file is damaged, what its sub-agents did is imported still."""
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "s.jsonl").write_bytes(main)
    lines(tmp_path / "p" / "s" / "subagents" / "agent-aa.jsonl", SUB)
    report = store.import_sessions(tmp_path)
    (t,) = store.trajectories()
    assert report.failed == [] and t.llm_calls[0].text == "by the door"


def test_what_stands_beside_a_result(tmp_path: Path) -> None:
    """What a person typed beside a tool's result is observed by the next step, and is kept where no reply follows; what an MCP
    server gave beside its text is kept, too."""
    beside = {**cc(3, "user", [*result("t1", "rope"), {"type": "text", "text": "and a pulley"}]), "mcpMeta": {"n": 1}}
    values = [cc(1, "user", "Hoist", None), cc(2, "assistant", use("t1")), beside]
    session = one("claude-code", lines(tmp_path / "a.jsonl", values))
    (note,) = (n for n in of(Note, session) if n.name == "unanswered")
    assert note.data["messages"][0]["content"] == [{"type": "text", "text": "and a pulley"}]
    assert of(Action, session)[0].extra["mcpMeta"] == {"n": 1}
    session = one("claude-code", lines(tmp_path / "a.jsonl", [*values, cc(4, "assistant", "Hoisted")]))
    assert of(StepStart, session)[1].observation == [{"type": "text", "text": "and a pulley"}]
    parts = [{"functionResponse": {"id": "c", "response": {"output": "clipped"}}}, {"text": "and the other"}]
    session = one(
        "qwen-code", lines(tmp_path / "q.jsonl", [*QWEN[:2], {**QWEN[2], "message": {"role": "user", "parts": parts}}, QWEN[3]])
    )
    assert "and the other" in prompts(session)[1] and of(StepStart, session)[1].observation == "and the other"


def test_sub_agents_with_the_same_prompt_that_run(tmp_path: Path) -> None:
    """Two sub-agents that were asked the same and have given no result yet belong to a call each."""
    values = [cc(1, "user", "Search", None), cc(2, "assistant", [*use("t1", "Task", prompt="find twine"), *use("t2", "Task", prompt="find twine")])]  # fmt: skip
    path = lines(tmp_path / "s.jsonl", values)
    for id in ("aa", "bb"):
        lines(tmp_path / "s" / "subagents" / f"agent-{id}.jsonl", [{**e, "uuid": f"{id}{e['uuid']}", "agentId": id} for e in SUB])
    session = one("claude-code", path)
    starters = {s.parent for s in of(StepStart, session) if s.agent}
    assert starters == {a.id for a in of(Action, session)}


def test_exit_codes_of_commands_that_a_program_calls_a_success(tmp_path: Path) -> None:
    """Qwen Code calls a command that failed a success; the text that the model was sent has its exit code. What a command itself
    prints is none."""

    def outcome(output: str) -> bool | None:
        parts = [{"functionResponse": {"id": "c", "response": {"output": output}}}]
        values = [*QWEN[:2], {**QWEN[2], "message": {"role": "user", "parts": parts}}]
        return of(Action, one("qwen-code", lines(tmp_path / "q.jsonl", values)))[0].ok

    assert outcome("Output: x\nError: (none)\nExit Code: 2\nSignal: (none)\nProcess Group PGID: 7") is False
    assert outcome("Output: x\nExit Code: 0\nSignal: (none)") is True
    assert outcome("Output: Exit Code: 2\nExit Code: 2\nand more\nError: (none)") is True


def test_a_persons_own_commands_in_pi(tmp_path: Path) -> None:
    """A command that a person ran in pi is told to the model with its output and exit code, unless it was kept out of the context."""
    ran = {"role": "bashExecution", "command": "ls", "output": "oars", "exitCode": 2}
    values = [
        {"type": "session", "id": "p", "timestamp": T.format(0), "cwd": "/w"},
        {"type": "message", "id": "1", "parentId": None, "message": ran},
        {"type": "message", "id": "2", "parentId": "1", "message": {**ran, "output": "keys", "excludeFromContext": True}},
        {"type": "message", "id": "3", "parentId": "2", "message": {"role": "user", "content": "Row"}},
        {"type": "message", "id": "4", "parentId": "3", "message": {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Aye"}]}},
        {"type": "message", "id": "5", "parentId": "4", "message": {"role": "user", "content": "Faster"}},
        {"type": "message", "id": "6", "parentId": "5", "message": {"role": "assistant", "content": [{"type": "text", "text": "Rowed"}]}},
    ]  # fmt: skip
    first, second = (c.request["messages"] for c in of(LLMCall, one("pi-session", lines(tmp_path / "p.jsonl", values))))
    assert [m["content"] for m in first] == ["Ran `ls`\n```\noars\n```\n\nCommand exited with code 2", "Row"]
    assert second[2] == {"role": "assistant", "content": "Aye", "reasoning_content": "hm"}


def test_aiders_thoughts_are_no_answer(tmp_path: Path) -> None:
    """What aider shows of a model's thoughts is in the reasoning, and in no answer or later prompt."""
    tag = "thinking-content-7bbeb8e1441453ad999a0bbba8a46d4b"
    (path := tmp_path / ".aider.chat.history.md").write_text(
        f"\n# aider chat started at 2026-03-01 10:00:00\n\n#### Splice\n\n<{tag}>\n\nwhich end\n\n</{tag}>\n\nSpliced\n\n#### Again\n\nAgain\n"
    )
    session = one("aider", path)
    first = of(LLMCall, session)[0]
    assert (first.reasoning, first.response["content"]) == ("which end", "Spliced")
    assert "which end" not in prompts(session)[1]


def test_an_answer_that_the_program_wrote(tmp_path: Path) -> None:
    """What Claude Code puts in the model's place is no call and is sent with later prompts; an error of the API is not sent."""
    empty = cc(2, "assistant", [{"type": "text", "text": "No response requested."}])
    failed = cc(4, "assistant", [{"type": "text", "text": "API Error: 529"}], isApiErrorMessage=True)
    for value in (empty, failed):
        value["message"]["model"] = "<synthetic>"
    values = [
        cc(1, "user", "Wait", None),
        empty,
        cc(3, "user", "Now"),
        failed,
        cc(5, "user", "Again"),
        cc(6, "assistant", "Done"),
    ]
    session = one("claude-code", lines(tmp_path / "a.jsonl", values))
    (sent,) = prompts(session)
    assert "No response requested." in sent and "529" not in sent
