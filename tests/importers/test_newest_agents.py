"""What the newest versions of agents wrote against a scripted model (late 2026), by hand and in small: each law was seen in what
the model's server had received."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import importers
from odograph.types import Action, Fork, LLMCall, Note, Start, StepStart

from . import agents
from .scaffold import of, one, read, write
from .test_as_they_were import lines, prompts
from .test_growing import CHAT_LOG, GEMINI_EDITOR, T, cc, codex, counts, gemini, result, said, use


def by_task(store: odograph.Store) -> dict[Any, odograph.Trajectory]:
    return {t.task: t for t in store.trajectories()}


def fork_of(trajectory: odograph.Trajectory) -> Fork:
    assert trajectory.start is not None and trajectory.start.fork is not None
    return trajectory.start.fork


def thought(n: int, model: str) -> dict[str, Any]:
    line = cc(
        n, "assistant", [{"type": "thinking", "thinking": f"hm{n}", "signature": "s"}, {"type": "text", "text": f"Said{n}"}]
    )
    line["message"]["model"] = model
    return line


def test_thoughts_go_to_their_own_model(tmp_path: Path) -> None:
    """After a change of the model, earlier thoughts of another model are not sent; after a change back they are sent again."""
    talk = [
        cc(1, "user", "One", None),
        thought(2, "a"),
        cc(3, "user", "Two"),
        thought(4, "b"),
        cc(5, "user", "Three"),
        thought(6, "b"),
    ]
    talk += [cc(7, "user", "Four"), thought(8, "a"), cc(9, "user", "Three again", "u4"), thought(10, "b")]
    session = one("claude-code", lines(tmp_path / "a.jsonl", talk))
    sent = prompts(session)
    assert [[h for h in ("hm2", "hm4", "hm6", "hm8") if h in p] for p in sent] == [[], [], ["hm4"], ["hm2"], ["hm4"]]
    assert all("Said2" in p for p in sent[1:])
    assert "Said6" not in sent[4]


def test_attachments_stand_before_what_was_said(tmp_path: Path) -> None:
    """An attachment is written behind a prompt and sent before it, behind the last reply or tool result. What follows it in the file
    still follows the prompt."""
    about = {"type": "skill_listing", "content": "- knots"}
    more = {"type": "hook_additional_context", "content": ["From a hook"]}
    talk = [
        cc(1, "user", "One", None),
        cc(2, "attachment", None, attachment=about),
        cc(3, "assistant", use("t1")),
        cc(4, "user", result("t1", "rope")),
        cc(5, "attachment", None, attachment=more),
        cc(6, "assistant", [{"type": "text", "text": "Rope."}]),
        cc(7, "user", "<command-name>/model</command-name>"),
        cc(8, "system", None, subtype="local_command"),
        cc(9, "user", "Two"),
        cc(10, "attachment", None, attachment=about),
        cc(11, "attachment", None, attachment=more),
        cc(12, "user", "Three"),
        cc(13, "assistant", [{"type": "text", "text": "Done."}]),
        cc(14, "user", "Not three", "u11"),
        cc(15, "assistant", [{"type": "text", "text": "Well."}]),
    ]
    session = one("claude-code", lines(tmp_path / "a.jsonl", talk))
    calls = [[m["content"] for m in c.request["messages"]] for c in of(LLMCall, session)]
    assert calls[0] == ["- knots", "One"]
    assert calls[1][-2:] == [result("t1", "rope"), "From a hook"]
    behind = ["- knots", "From a hook", "<command-name>/model</command-name>", "Two"]
    assert calls[2][-5:] == [*behind, "Three"]
    assert calls[3][-5:] == [*behind, "Not three"]


def test_the_file_that_went_on_is_the_parent_of_its_copy(tmp_path: Path) -> None:
    """`claude --resume A --fork-session` copies A's messages. A may go on later than the copy: A is the parent all the same."""
    ours = [cc(1, "user", "Name a knot", None), cc(2, "assistant", "Bowline")]
    marks: list[dict[str, Any]] = [{"type": "last-prompt", "sessionId": "s"}, {"type": "queue-operation", "sessionId": "s"}]
    late = [cc(20, "user", "Another", "u2"), cc(21, "assistant", "Hitch")]
    copies = [
        {**v, "sessionId": f"z{k}"}
        for k in (1, 2)
        for v in [*ours, cc(10 + k, "user", f"Spell it {k}", "u2"), cc(15 + k, "assistant", "B-o-w")]
    ]
    lines(
        tmp_path / "s.jsonl",
        [{"type": "queue-operation", "sessionId": "s", "timestamp": T.format(0)}, ours[0], marks[0], ours[1], *marks, *late],
    )
    lines(tmp_path / "a.jsonl", [{"type": "queue-operation", "timestamp": T.format(9)}, *copies[:4]])
    lines(tmp_path / "b.jsonl", copies[4:])
    with odograph.open("memory:") as store:
        store.import_sessions(tmp_path)
        found = by_task(store)
        parent = found["Name a knot"]
        assert [len(parent.llm_calls), parent.start and parent.start.fork] == [2, None]
        for k in (1, 2):
            assert [len(found[f"Spell it {k}"].llm_calls), fork_of(found[f"Spell it {k}"]).trajectory] == [1, parent.id]


def test_a_codex_thread_that_was_reverted_twice(tmp_path: Path) -> None:
    """Each revert begins a file of the same thread, which names the part that it goes on from; a fork names a part, too. Every part is
    a trajectory of its own, and every link leads to one that is there."""
    thread, second, third, fork = (f"019d0000-{n}000-7000-8000-0000000000a1" for n in range(4))

    def part(name: str, n: int, begins: int, words: str, id: str = thread, **meta: Any) -> None:
        about = codex("session_meta", n, id=id, timestamp=T.format(n), **meta)
        own = [about, said(n + 1, words), said(n + 2, f"{words}!", "assistant"), counts(n + 2, n)]
        lines(tmp_path / f"rollout-{name}.jsonl", [{**v, "ordinal": begins + k} for k, v in enumerate(own)])

    def base(of: str, end: int) -> dict[str, Any]:
        return {"thread_id": of, "end_ordinal_exclusive": end}

    part(thread, 0, 0, "One")
    part(f"{thread}_{second}", 10, 4, "Two", history_base=base(thread, 4))
    part(f"{thread}_{third}", 20, 8, "Three", history_base=base(second, 8))
    part(fork, 30, 12, "Four", fork, forked_from_id=thread, forked_from_ordinal_exclusive=12, history_base=base(third, 12))
    with odograph.open("memory:") as store:
        store.import_sessions(tmp_path)
        found = by_task(store)
        assert sorted(found) == ["Four", "One", "Three", "Two"]
        assert [len(t.llm_calls) for t in found.values()] == [1, 1, 1, 1]
        links = [("Two", "One", "resumed"), ("Three", "Two", "resumed"), ("Four", "Three", "forked")]
        assert [(fork_of(found[a]).trajectory, fork_of(found[a]).reason) for a, _, _ in links] == [
            (found[b].id, why) for _, b, why in links
        ]
        assert "One!" in json.dumps(found["Four"].llm_calls[0].request) and "Three!" in json.dumps(
            found["Four"].llm_calls[0].request
        )


def test_the_outcome_of_a_codex_review_is_no_reply(tmp_path: Path) -> None:
    """After a review, Codex puts its outcome in the model's place. It is sent from then on, and no call gave it."""
    over = {"type": "ExitedReviewMode", "id": "r", "review_output": {"findings": []}}
    talk = [
        codex("session_meta", 0, id="019d0000-0000-7000-8000-0000000000a1", timestamp=T.format(0)),
        said(1, "Plant beans"),
        said(2, "Planted", "assistant"),
        counts(2, 10),
        said(3, "<user_action>a review</user_action>"),
        codex("event_msg", 3, type="item_completed", item=over),
        said(3, "No findings", "assistant"),
        said(4, "Go on"),
        said(5, "Gone on", "assistant"),
        counts(5, 20),
    ]
    session = one("codex", lines(tmp_path / "rollout-a.jsonl", talk))
    sent = prompts(session)
    assert len(sent) == 2
    assert "No findings" in sent[1]


def test_a_codex_tool_that_is_no_command_has_its_outcome(tmp_path: Path) -> None:
    talk = [
        codex("session_meta", 0, id="019d0000-0000-7000-8000-0000000000a1", timestamp=T.format(0)),
        said(1, "Ask"),
        *(codex("response_item", 2, type="function_call", call_id=i, name="ask", arguments="{}") for i in ("c1", "c2")),
        *(codex("event_msg", 2, type="item_completed", item={"type": "McpToolCall", "id": i, "status": s}) for i, s in (("c1", "completed"), ("c2", "failed"))),
        *(codex("response_item", 3, type="function_call_output", call_id=i, output="x") for i in ("c1", "c2")),
        counts(3, 10),
    ]  # fmt: skip
    assert [a.ok for a in of(Action, one("codex", lines(tmp_path / "rollout-a.jsonl", talk)))] == [True, False]


def test_a_gemini_session_in_an_editor(tmp_path: Path) -> None:
    """Behind an editor (`gemini --acp`), one message carries the tool calls of all replies. Each belongs to the reply before its answer;
    a call that a person refused is known by its answer alone."""
    session = one("gemini-cli", lines(tmp_path / "c.jsonl", GEMINI_EDITOR))
    assert of(Start, session)[0].task == "Look"
    calls, actions = of(LLMCall, session), of(Action, session)
    assert len(calls) == len(of(StepStart, session)) == 5
    assert [(a.name, a.step, a.ok) for a in actions] == [("ls", 0, True), ("cat", 0, True), ("ls", 2, True), ("rm", 3, False)]
    assert [c.prompt_tokens for c in calls] == [10, 11, 12, 13, 14]
    assert [[m["role"] for m in c.request["messages"]] for c in calls[:3]] == [
        ["user"],
        ["user", "assistant", "tool", "tool"],
        ["user", "assistant", "tool", "tool", "assistant", "user"],
    ]
    assert [t["function"]["name"] for t in calls[2].response["tool_calls"]] == ["ls"]


def test_gemini_sub_agents_have_a_parent_and_a_name(tmp_path: Path) -> None:
    """A sub-agent's log lies in a folder that is named for the session. Its start refers to the session, and its call to it."""
    head = {"projectHash": "h", "startTime": T.format(0)}
    asked = {"id": "k1", "name": "invoke_agent", "args": {"agent_name": "scout"}, "agentId": "sub-1", "result": [{"functionResponse": {"id": "k1", "response": {"output": "found"}}}]}  # fmt: skip
    main = [{"sessionId": "main-0001", **head}, gemini(1, "user", "Find it"), gemini(2, "gemini", "I ask", toolCalls=[asked])]
    context = [{"text": "\n<loaded_context>\nrules\n</loaded_context>"}, {"text": "Look for it"}]
    inner = [{"sessionId": "sub-1", "kind": "subagent", **head}, gemini(3, "user", context), gemini(4, "gemini", "Found")]
    lines(tmp_path / "chats" / "session-main-000.jsonl", main)
    lines(tmp_path / "chats" / "main-0001" / "sub-1.jsonl", inner)
    with odograph.open("memory:") as store:
        store.import_sessions(tmp_path)
        found = by_task(store)
        parent, child = found["Find it"], found["Look for it"]
        assert (child.start and child.start.agent, fork_of(child).trajectory, fork_of(child).reason) == (
            "scout",
            parent.id,
            "sub-agent",
        )
        assert (parent.actions[0].extra or {})["trajectory"] == child.id


def event(n: int, kind: str, **data: Any) -> dict[str, Any]:
    return {"id": f"e{n}", "type": kind, "timestamp": T.format(n), "data": data}


def test_what_copilot_sends_of_tools_images_and_a_compaction(tmp_path: Path) -> None:
    """Results in the order of the calls, a sentence in the place of one that was not waited for, images behind the words, and what a
    compaction leaves: the person's words and the summary."""
    asked = [{"toolCallId": i, "name": "sh", "arguments": {}} for i in ("a", "b", "c")]
    image = {"assetId": "i1", "type": "image", "mimeType": "image/png", "data": "aWNvbg=="}
    talk = [
        event(0, "session.start", sessionId="s"),
        event(1, "session.binary_asset", **image),
        event(2, "user.message", content="Look", attachments=[{"type": "file", "path": "/x.png", "assetId": "i1"}]),
        event(3, "assistant.message", content="", toolRequests=asked),
        event(4, "tool.execution_complete", toolCallId="c", success=True, result={"content": "third"}),
        event(5, "tool.execution_complete", toolCallId="a", success=True, result={"content": "first"}),
        event(6, "abort", reason="user_initiated"),
        event(7, "user.message", content="Go on"),
        event(8, "assistant.message", content="Gone on", toolRequests=[]),
        event(9, "session.compaction_complete", success=True, summaryContent="a {long} way"),
        event(10, "user.message", content="And now"),
        event(11, "assistant.message", content="Home", toolRequests=[]),
    ]
    session = one("copilot", lines(tmp_path / "events.jsonl", talk))
    sent = [c.request["messages"] for c in of(LLMCall, session)]
    assert [p["type"] for p in sent[0][0]["content"]] == ["text", "text", "image_url"]
    assert sent[0][0]["content"][2]["image_url"]["url"] == "data:image/png;base64,aWNvbg=="
    assert [m["tool_call_id"] for m in sent[1][2:5]] == ["a", "b", "c"]
    assert ["first" in sent[1][2]["content"], "interrupted" in sent[1][3]["content"], "third" in sent[1][4]["content"]] == [
        True
    ] * 3
    (left, last) = sent[2]
    assert all(words in left["content"] for words in ("Look", "Go on", "a {long} way"))
    assert "Gone on" not in left["content"] and last["content"] == "And now"


@pytest.mark.parametrize("there", [True, False])
def test_a_fork_of_pi_shares_its_history(tmp_path: Path, there: bool) -> None:
    """pi copies the messages of the session that it forks: those are older than the fork's own header, and are counted once."""

    def entry(n: int, role: str, words: str, second: int) -> dict[str, Any]:
        message = {"role": role, "content": [{"type": "text", "text": words}], "usage": {"input": 5, "output": 2}}
        return {
            "type": "message",
            "id": f"e{n}",
            "parentId": f"e{n - 1}" if n > 1 else None,
            "timestamp": T.format(second),
            "message": message,
        }

    ours = [entry(1, "user", "Knot it", 1), entry(2, "assistant", "Knotted", 2)]
    head = {"type": "session", "version": 3, "id": "p1", "timestamp": T.format(0), "cwd": "/"}
    name = "2026-03-01T10-00-00-000Z_p1.jsonl"
    if there:
        lines(tmp_path / name, [head, *ours, entry(3, "user", "More", 20), entry(4, "assistant", "Tied", 21)])
    fork = {**head, "id": "p2", "timestamp": T.format(9), "parentSession": f"/elsewhere/{name}"}
    path = lines(
        tmp_path / "fork.jsonl",
        [fork, *ours, entry(5, "user", "Now a bow", 10) | {"parentId": "e2"}, entry(6, "assistant", "Bowed", 11)],
    )
    with odograph.open("memory:") as store:
        store.import_sessions(tmp_path if there else path)
        found = by_task(store)
        t = found["Now a bow"]
        assert [len(t.llm_calls), t.llm_calls[0].prompt_tokens, [s.index for s in t.steps]] == [1, 5, [1]]
        assert next(m["content"] for m in t.llm_calls[0].messages)[0]["text"] == "Knot it"
        assert "Knotted" in json.dumps(t.llm_calls[0].request)
        assert (fork_of(t).step, fork_of(t).reason) == (1, "forked")
        if there:
            assert fork_of(t).trajectory == found["Knot it"].id
        else:
            lines(tmp_path / name, [head, *ours])
            store.import_sessions(tmp_path / name)
            assert fork_of(t).trajectory == by_task(store)["Knot it"].id


def test_a_harbor_trial_of_several_steps(tmp_path: Path) -> None:
    """Newer Harbor moves what the agent did into a folder for each step, and removes the trial's own: a trajectory and a verdict each. A
    failure that Harbor does not grade is the environment's."""
    trial = tmp_path / "dig__1"
    for name in ("first", "second"):
        write(trial / "steps" / name / "agent" / "instruction.md", f"Do the {name}")
    failure = {"exception_type": "HealthcheckError", "policy": {"should_retry": True, "should_grade": False}}
    steps = [
        {"step_name": "first", "verifier_result": {"rewards": {"reward": 1.0}}},
        {"step_name": "second", "verifier_result": None, "exception_info": failure},
    ]
    about = {"task_name": "dig", "trial_name": "dig__1", "verifier_result": {"rewards": {"reward": 0.5}}, "exception_info": None}
    write(trial / "result.json", {**about, "id": "i", "started_at": T.format(0), "step_results": steps})
    with odograph.open("memory:") as store:
        assert store.import_sessions(tmp_path).failed == []
        found = by_task(store)
        assert sorted(found) == ["Do the first", "Do the second"]
        done, broken = found["Do the first"], found["Do the second"]
        assert [(t.group, t.status, t.reward) for t in (done, broken)] == [("dig", "completed", 1.0), ("dig", "failed", None)]
        assert broken.end is not None and broken.end.metrics["status"] == "error_environment"
        assert store.import_sessions(tmp_path).imported == 0


def test_a_fork_of_opencode_shares_its_history(tmp_path: Path) -> None:
    """OpenCode copies the messages of a forked session under new ids, with their times, and names no parent. A second fork has the same
    parent. The shared part is counted once."""
    database = sqlite3.connect(agents.opencode(tmp_path / "opencode.db"))
    database.execute("delete from session where id = 's2'")
    database.execute("delete from message where session_id = 's2'")
    rows = database.execute("select id, time_created, data from message order by time_created").fetchall()
    parts = database.execute("select id, message_id, data from part").fetchall()
    for k in (1, 2):
        begun = agents.MS + 10_000 * k
        database.execute("insert into session values (?, 'p', null, 'x', '/w', 't', '1.2', ?, ?)", (f"f{k}", begun, begun))
        copied = [(f"{id}-{k}", time, data) for id, time, data in rows[:2]]
        own = [
            (f"u{k}", begun + 1, json.dumps({"role": "user", "time": {"created": begun + 1}})),
            (
                f"a{k}",
                begun + 2,
                json.dumps({"role": "assistant", "modelID": "m", "finish": "stop", "time": {"created": begun + 2}}),
            ),
        ]
        database.executemany(
            "insert into message values (?, ?, ?, ?)", [(id, f"f{k}", time, data) for id, time, data in [*copied, *own]]
        )
        copies = [(f"{id}-{k}", f"{of}-{k}", data) for id, of, data in parts if of in ("m1", "m2")]
        mine = [
            (f"p{w}", w, json.dumps({"type": "text", "text": words}))
            for w, words in ((f"u{k}", f"Fork {k}"), (f"a{k}", "Forked"))
        ]
        database.executemany(
            "insert into part values (?, ?, ?, ?)", [(id, of, f"f{k}", data) for id, of, data in [*copies, *mine]]
        )
    database.commit()
    database.close()
    with odograph.open("memory:") as store:
        store.import_sessions(tmp_path / "opencode.db")
        found = by_task(store)
        assert sorted(found) == ["Fork 1", "Fork 2", "Mend the net"]
        parent = found["Mend the net"]
        for k in (1, 2):
            t = found[f"Fork {k}"]
            assert (len(t.llm_calls), len(t.actions)) == (1, 0)
            assert (fork_of(t).trajectory, fork_of(t).step, fork_of(t).reason) == (parent.id, 1, "forked")
            assert "twine" in json.dumps(t.llm_calls[0].request)


def test_a_fork_of_qwen_code_shares_its_history(tmp_path: Path) -> None:
    """`qwen --resume A --fork-session` copies A's lines, which say so (`forkedFrom`); they are counted with A."""

    def line(n: int, kind: str, words: str, session: str, parent: int | None = None, **more: Any) -> dict[str, Any]:
        message = {"role": "model" if kind == "assistant" else "user", "parts": [{"text": words}]}
        above = f"q{parent or n - 1}" if n > 1 else None
        about = {"uuid": f"q{n}", "parentUuid": above, "sessionId": session, "timestamp": T.format(n), "type": kind, "cwd": "/"}
        return {
            **about,
            "message": message,
            **({"usageMetadata": {"promptTokenCount": n}} if kind == "assistant" else {}),
            **more,
        }

    ours = [line(1, "user", "Knot it", "a"), line(2, "assistant", "Knotted", "a")]
    copied = [{**v, "sessionId": "b", "forkedFrom": {"sessionId": "a", "messageUuid": v["uuid"]}} for v in ours]
    lines(tmp_path / "a.jsonl", [*ours, line(20, "user", "More", "a", 2), line(21, "assistant", "Tied", "a")])
    lines(tmp_path / "b.jsonl", [*copied, line(10, "user", "Now a bow", "b", 2), line(11, "assistant", "Bowed", "b")])
    with odograph.open("memory:") as store:
        store.import_sessions(tmp_path)
        found = by_task(store)
        t, parent = found["Now a bow"], found["Knot it"]
        assert [len(t.llm_calls), len(parent.llm_calls), [s.index for s in t.steps]] == [1, 2, [1]]
        assert [m["content"] for m in t.llm_calls[0].messages] == ["Knot it", "Knotted", "Now a bow"]
        assert (fork_of(t).trajectory, fork_of(t).step, fork_of(t).reason) == (parent.id, 1, "forked")


def test_a_copy_of_a_goose_session_shares_its_history(tmp_path: Path) -> None:
    """Goose copies a session with the ids of its messages (an edited prompt goes on in a copy); the copied calls are counted once."""
    talk = [agents.goose_message(f"m{n}", role, n, agents.said(words)) for n, (role, words) in enumerate((("user", "Knot it"), ("assistant", "Knotted"), ("user", "More"), ("assistant", "Tied")))]  # fmt: skip
    database = sqlite3.connect(agents.goose(tmp_path / "sessions.db", talk))
    own = [
        agents.goose_message("x1", "user", 20, agents.said("Now a bow")),
        agents.goose_message("x2", "assistant", 21, agents.said("Bowed")),
    ]
    database.execute("insert into sessions values ('h1', 'd', '/w', '2026-03-01 10:01:00', 7, 3)")
    for m in [*talk[:2], *own]:
        database.execute(
            "insert into messages (session_id, role, content_json, created_timestamp, message_id, metadata_json) values ('h1', ?, ?, ?, ?, ?)",
            (m["role"], json.dumps(m["content"]), m["created"], m["id"], json.dumps(m["metadata"])),
        )
    database.commit()
    database.close()
    with odograph.open("memory:") as store:
        store.import_sessions(tmp_path / "sessions.db")
        found = by_task(store)
        t, parent = found["Now a bow"], found["Knot it"]
        assert [len(t.llm_calls), len(parent.llm_calls), [s.index for s in t.steps]] == [1, 2, [1]]
        assert [m["content"] for m in t.llm_calls[0].messages] == ["Knot it", "Knotted", "Now a bow"]
        assert (fork_of(t).trajectory, fork_of(t).step, fork_of(t).reason) == (parent.id, 1, "forked")


def test_a_chat_of_vs_code_is_a_log(tmp_path: Path) -> None:
    """Since VS Code 1.109 a chat is an object and what was changed in it. Where an older file lies beside it, the log counts."""
    path = lines(tmp_path / "v.jsonl", CHAT_LOG)
    write(tmp_path / "v.json", {**CHAT_LOG[0]["v"], "requests": [{"requestId": "q1", "message": {"text": "Look"}}]})
    with odograph.open("memory:") as store:
        report = store.import_sessions(tmp_path)
        assert (report.imported, report.failed) == (1, [])
        (t,) = store.trajectories()
        assert [m["content"] for m in t.llm_calls[-1].messages] == ["Look", "I look", "grains", "Sand", "Deeper"]
        assert [(c.prompt_tokens, c.completion_tokens) for c in t.llm_calls] == [(None, None), (30, 7), (None, None)]
        assert [(a.name, a.result) for a in t.actions] == [("read", "grains")]
        assert store.import_sessions(path).imported == 0


def open_claw(path: Path, events: list[dict[str, Any]], packed: bool = False) -> Path:
    """OpenClaw's database with these events of one session; the last one packed with zstd."""
    database = sqlite3.connect(path)
    database.execute("create table if not exists session_windows (session_id text primary key, reason text)")
    database.execute(
        "create table if not exists transcript_events (session_id text, seq integer, event_json text, created_at integer, event_zstd blob, event_utf8_bytes integer)"
    )
    database.execute("delete from transcript_events")
    for n, value in enumerate(events):
        data: Any = json.dumps(value)
        blob = None
        if packed and n == len(events) - 1:
            zstandard = pytest.importorskip("zstandard")
            data, blob = None, zstandard.ZstdCompressor().compress(json.dumps(value).encode())
        database.execute("insert into transcript_events values ('p1', ?, ?, 0, ?, null)", (n, data, blob))
    database.commit()
    database.close()
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_open_claws_database_is_its_sessions(tmp_path: Path, packed: bool) -> None:
    """Since 2026.8 OpenClaw keeps the lines of its sessions in a database. What was imported from the files before adds nothing."""
    head = {"type": "session", "version": 3, "id": "p1", "timestamp": T.format(0), "cwd": "/"}

    def entry(n: int, role: str, words: str) -> dict[str, Any]:
        message = {"role": role, "content": [{"type": "text", "text": words}]}
        return {
            "type": "message",
            "id": f"e{n}",
            "parentId": f"e{n - 1}" if n > 1 else None,
            "timestamp": T.format(n),
            "message": message,
        }

    talk = [
        head,
        entry(1, "user", "Knot it"),
        entry(2, "assistant", "Knotted"),
        entry(3, "user", "More"),
        entry(4, "assistant", "Tied"),
    ]
    with odograph.open("memory:") as store:
        store.import_sessions(lines(tmp_path / "p1.jsonl", talk[:3]))
        report = store.import_sessions(open_claw(tmp_path / "openclaw-agent.sqlite", talk, packed))
        assert report.failed == []
        (t,) = store.trajectories()
        assert [c.response["content"] for c in t.llm_calls] == ["Knotted", "Tied"]
        assert len(t.llm_calls[1].messages) == 3
        assert store.import_sessions(tmp_path / "openclaw-agent.sqlite").imported == 0


def test_a_task_of_roo_in_the_shape_of_the_ai_sdk(tmp_path: Path) -> None:
    """Roo of February 2026 kept an object with messages of Vercel's AI SDK: thoughts, calls, results and errors are the same."""
    (folder := tmp_path / "1772359200000").mkdir()
    tool = {"type": "tool-call", "toolName": "read_file"}
    result = {"type": "tool-result", "toolName": "read_file"}
    signed = {"type": "reasoning", "text": "hm", "providerOptions": {"anthropic": {"signature": "s"}}}
    messages = [
        {"role": "user", "ts": 1772359200000, "content": [{"type": "text", "text": "<task>\nFind it\n</task>"}]},
        {"role": "assistant", "ts": 1772359201000, "content": [signed, {"type": "text", "text": "I look"}, {**tool, "toolCallId": "a", "input": {"path": "x"}}, {**tool, "toolCallId": "b", "input": {"path": "y"}}]},
        {"role": "tool", "ts": 1772359202000, "content": [{**result, "toolCallId": "a", "output": {"type": "text", "value": "a wren"}}, {**result, "toolCallId": "b", "output": {"type": "text", "value": "[ERROR] no"}}]},
        {"type": "reasoning", "ts": 1772359203000, "id": "r", "encrypted_content": "e", "summary": [{"type": "summary_text", "text": "found"}]},
        {"role": "assistant", "ts": 1772359204000, "content": "Done", "reasoning_content": "so it is"},
    ]  # fmt: skip
    path = write(folder / "api_conversation_history.json", {"version": 2, "messages": messages})
    assert (found := odograph.importers.recognise(path)) is not None and found.NAME == "cline"
    session = one("cline", path)
    first, second = of(LLMCall, session)
    assert (of(Start, session)[0].task, first.reasoning, second.reasoning) == ("Find it", "hm", "found\n\nso it is")
    assert [(a.arguments, a.result, a.ok) for a in of(Action, session)] == [
        ({"path": "x"}, "a wren", None),
        ({"path": "y"}, "[ERROR] no", False),
    ]
    results = [{"type": "tool_result", "tool_use_id": "a", "content": "a wren"}, {"type": "tool_result", "tool_use_id": "b", "content": "[ERROR] no", "is_error": True}]  # fmt: skip
    assert second.request["messages"][2] == {"role": "user", "content": results}
    assert second.request["messages"][1]["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "s"}


def test_a_transcript_of_cursor_says_when_and_how_turns_ended(tmp_path: Path) -> None:
    """The time stands in the person's text, and the mark of the program may stand in what a person asked; turns that did not
    succeed are notes; contents may be texts; a file with the end of a turn alone is no session yet."""

    def asked(when: str, what: str) -> dict[str, Any]:
        return {"role": "user", "message": {"content": [{"type": "text", "text": f"<timestamp>{when}</timestamp>\n<user_query>\n{what}\n</user_query>"}]}}  # fmt: skip

    stopped = {"type": "turn_ended", "status": "aborted", "error": "User aborted/interrupted manually."}
    entries = [
        asked("Wednesday, Sep 16, 2026, 3:37 PM (UTC-4)", "Close </user_query> marks"),
        {"role": "assistant", "message": {"content": [{"type": "tool_use", "name": "ApplyPatch", "input": "*** Begin"}]}},
        {"type": "turn_ended", "status": "success"},
        asked("Tuesday, Jun 2, 2026, 12:05 AM (UTC+5:30)", "and run"),
        {"role": "assistant", "message": {"content": "Ran"}},
        stopped,
        {"role": "user", "message": {"content": "never mind"}},
    ]
    session = one("cursor", lines(tmp_path / "a.jsonl", entries))
    start, steps = of(Start, session)[0], of(StepStart, session)
    assert (start.task, start.source_time) == ("Close </user_query> marks", 1789587420 * 10**9)
    assert [s.extra["times"] for s in steps if s.extra] == [["2026-09-16T19:37:00Z"], ["2026-06-01T18:35:00Z"]]
    assert [(a.name, a.arguments) for a in of(Action, session)] == [("ApplyPatch", "*** Begin")]
    assert [n.data for n in of(Note, session) if n.name == "turn_ended"] == [{k: stopped[k] for k in ("status", "error")}]
    assert of(LLMCall, session)[1].response == {"role": "assistant", "content": "Ran"}
    assert "never mind" in str([n.data for n in of(Note, session)])
    alone = lines(tmp_path / "b.jsonl", [stopped])
    assert (found := odograph.importers.recognise(alone)) is not None and found.NAME == "cursor"
    with pytest.raises(importers.NotBegun):
        read("cursor", alone)
    with odograph.open("memory:") as store:
        report = store.import_sessions(tmp_path)
        assert (report.imported, report.failed) == (1, [])


def test_a_sub_agent_in_cursors_database_refers_to_its_parent(tmp_path: Path) -> None:
    """A sub-agent's chat names its parent and has its own name; the action that started the chat refers to it."""
    path = agents.cursor(tmp_path / "state.vscdb")
    child = {"composerId": "kid", "_v": 3, "createdAt": 1772359200000, "subagentInfo": {"parentComposerId": "c9", "toolCallId": "c1", "subagentTypeName": "explore"}, "fullConversationHeadersOnly": [{"bubbleId": "k0", "type": 1}, {"bubbleId": "k1", "type": 1}, {"bubbleId": "k2", "type": 2}]}  # fmt: skip
    bubbles = {"k0": {"type": 1, "text": "told by the program", "isSimulatedMsg": True}, "k1": {"type": 1, "text": "Look"}, "k2": {"type": 2, "text": "Seen"}}  # fmt: skip
    with contextlib.closing(sqlite3.connect(path)) as database:
        composer = json.loads(database.execute("select value from cursorDiskKV where key = 'composerData:c9'").fetchone()[0])
        composer["subagentComposerIds"] = ["kid", "gone"]
        database.execute("update cursorDiskKV set value = ? where key = 'composerData:c9'", (json.dumps(composer),))
        rows = {"composerData:kid": child, **{f"bubbleId:kid:{id}": {"bubbleId": id, **b} for id, b in bubbles.items()}}
        database.executemany("insert into cursorDiskKV values (?, ?)", [(k, json.dumps(v)) for k, v in rows.items()])
        database.commit()
    parent, kid = read("cursor", path)
    start = of(Start, kid)[0]
    assert (start.agent, start.task, start.fork and (start.fork.trajectory, start.fork.reason)) == ("explore", "Look", (parent.id, "sub-agent"))  # fmt: skip
    assert [(a.extra or {}).get("trajectory") for a in of(Action, parent)] == [kid.id]
    assert of(Start, parent)[0].fork is None


def test_a_thread_of_amp_goes_on_from_its_summary(tmp_path: Path) -> None:
    """After a compaction prompts begin with its summary; a command that a person ran is part of the next prompt unless it was
    hidden; an answer took as long as its parts say."""
    at = 1787392800000
    command = {"type": "manual_bash_invocation", "args": {"cmd": "ls"}, "toolRun": {"status": "done"}}
    messages = [
        {"role": "user", "messageId": 0, "meta": {"sentAt": at}, "content": [{"type": "text", "text": "Look"}]},
        {"role": "assistant", "messageId": 1, "content": [{"type": "thinking", "thinking": "hm", "startTime": at + 500, "finalTime": at + 750}, {"type": "text", "text": "A wren", "startTime": at + 750, "finalTime": at + 900}]},
        {"role": "info", "messageId": 2, "content": [{"type": "summary", "summary": {"type": "message", "summary": "a wren was seen"}}]},
        {"role": "info", "messageId": 3, "content": [command, {**command, "hidden": True, "args": {"cmd": "secret"}}]},
        {"role": "user", "messageId": 4, "content": [{"type": "text", "text": "Go on"}]},
        {"role": "assistant", "messageId": 5, "content": [{"type": "text", "text": "Aye"}]},
    ]  # fmt: skip
    session = one("amp", write(tmp_path / "T-1.json", {"v": 8, "id": "T-1", "created": at, "messages": messages}))
    first, second = of(LLMCall, session)
    assert (first.started, first.duration) == ((at + 500) * 10**6, 400 * 10**6)
    assert list(second.request["messages"]) == [
        {"role": "user", "content": "a wren was seen"},
        {"role": "user", "content": [command]},
        {"role": "user", "content": [{"type": "text", "text": "Go on"}]},
    ]
    assert [(n.name, n.data.get("summary") or n.data["args"]) for n in of(Note, session)] == [("compaction", "a wren was seen"), ("shown", {"cmd": "secret"})]  # fmt: skip


def test_messages_of_lettas_api_are_a_session(tmp_path: Path) -> None:
    """The API answers the newest first; reasoning, the request for approval and what was said are the reply."""
    told = [
        ("system_message", {"content": "be brief"}), ("user_message", {"content": [{"type": "text", "text": "Look"}]}),
        ("reasoning_message", {"reasoning": "hm"}), ("approval_request_message", {"tool_call": {"name": "Read", "arguments": '{"p": 1}', "tool_call_id": "t"}}),
        ("tool_return_message", {"tool_call_id": "t", "tool_return": "a wren", "status": "error", "stderr": ["no"]}), ("assistant_message", {"content": "A wren"}),
    ]  # fmt: skip
    messages = [{"message_type": kind, "id": f"m{n}", "date": f"2026-07-01T12:00:0{n}Z", "seq_id": n, **more} for n, (kind, more) in enumerate(told)]  # fmt: skip
    path = write(tmp_path / "a.json", messages[::-1])
    assert (found := odograph.importers.recognise(path)) is not None and found.NAME == "letta-evals"
    session = one("letta-evals", path)
    first, second = of(LLMCall, session)
    assert [m["role"] for m in second.request["messages"]] == ["system", "user", "assistant", "tool"]
    assert (of(Start, session)[0].task, first.reasoning, second.response["content"]) == ("Look", "hm", "A wren")
    assert [(a.name, a.arguments, a.result, a.ok) for a in of(Action, session)] == [("Read", {"p": 1}, "a wren", False)]


def test_a_damaged_first_line_costs_itself(tmp_path: Path, store: odograph.Store) -> None:
    """A file of lines is known by the lines behind a first line that is damaged; a page of a server is known by its events."""
    turn = [{"role": "user", "message": {"content": "hi"}}, {"role": "assistant", "message": {"content": "yo"}}]
    text = "".join(json.dumps(e) + "\n" for e in turn)
    write(tmp_path / "a.jsonl", "{not json\n" + text)
    write(tmp_path / "b.jsonl", "\x00\x00 torn\n" + json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}) + "\n")  # fmt: skip
    message = {"kind": "MessageEvent", "id": "e0", "timestamp": "2026-07-04T08:00:00", "source": "user", "llm_message": {"role": "user", "content": [{"type": "text", "text": "Dig"}]}}  # fmt: skip
    write(tmp_path / "c.json", {"items": [message, {**message, "id": "e1", "source": "agent", "llm_message": {"role": "assistant", "content": [{"type": "text", "text": "Dug"}]}}], "next_page_id": None})  # fmt: skip
    report = store.import_sessions(tmp_path)
    assert ({t["format"] for t in report.trajectories}, report.failed, report.unrecognised) == ({"cursor", "openai-chat", "openhands"}, [], [])  # fmt: skip
    assert sorted(len(t.llm_calls) for t in store.trajectories()) == [1, 1, 1]
    assert sum("damaged line at byte 0" in w for w in report.warnings) == 2


def test_goose_says_what_each_request_took(tmp_path: Path) -> None:
    """Newer databases have a row for each request, a compaction's too; exports have their totals in objects. Signatures and hidden
    thoughts are kept."""
    path = agents.goose(tmp_path / "sessions.db")
    (before,) = read("goose", path)
    calls = len(of(LLMCall, before))
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("create table usage_ledger (id integer primary key, session_id text, created_timestamp integer, model text, input_tokens integer, output_tokens integer, cache_read_tokens integer, cost real, is_compaction integer)")  # fmt: skip
        told = [(50 + n, n, 0.25, 0) for n in range(calls)]
        for sent, said_, cost, compaction in [*told[:1], (999, 9, 9.0, 1), *told[1:]]:
            database.execute("insert into usage_ledger values (null, 'g9', 1, 'm-2', ?, ?, 40, ?, ?)", (sent, said_, cost, compaction))  # fmt: skip
        database.execute("insert into usage_ledger values (null, 'another', 1, 'm', 7, 7, 7, 7, 0)")
        database.commit()
    (session,) = read("goose", path)
    found = [(c.model, c.prompt_tokens, c.completion_tokens, c.cost, (c.usage or {}).get("cache_read_tokens")) for c in of(LLMCall, session)]  # fmt: skip
    assert found == [("m-2", 50 + n, n, 0.25, 40) for n in range(calls)] and calls > 1
    assert [c.id for c in of(LLMCall, session)] == [c.id for c in of(LLMCall, before)]
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("insert into usage_ledger values (null, 'g9', 1, 'm-2', 1, 1, 0, 1, 0)")
        database.commit()
    (session,) = read("goose", path)
    assert [c.prompt_tokens for c in of(LLMCall, session)] == [None] * calls and session.warnings
    thoughts = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redactedThinking", "data": "x"}, {"type": "text", "text": "yo"}]  # fmt: skip
    talk = [{"role": "user", "created": 1, "content": [{"type": "text", "text": "hi"}]}, {"role": "assistant", "created": 2, "content": thoughts}]  # fmt: skip
    export = write(tmp_path / "e.json", {"id": "e", "working_dir": "/w", "conversation": talk, "accumulated_usage": {"input_tokens": 12, "output_tokens": 3}})  # fmt: skip
    exported = one("goose", export)
    assert of(Start, exported)[0].metadata["source"]["totals"] == {"prompt_tokens": 12, "completion_tokens": 3}
    assert [(c.reasoning, (c.extra or {})["thinking"]) for c in of(LLMCall, exported)] == [("hm", thoughts[:2])]


def test_opencode_2_has_tables_of_its_own(tmp_path: Path) -> None:
    """Prompts hold what the program sends: files that were read, commands of the person, an answer that failed half-way, and
    after a compaction what it left. Times are those of the answer; sub-agents and forks refer to their parents."""
    path = agents.opencode_2(tmp_path / "opencode.db")
    assert (found := odograph.importers.recognise(path)) is not None and found.NAME == "opencode"
    main, child, fork = read("opencode", path)
    first, failed, third, last = of(LLMCall, main)
    asked = [{"type": "text", "text": "Mend the net"}, {"type": "text", "text": "\n\nAttached file: net.md\n\ntorn"}]
    told = list(first.request["messages"])
    assert [told[0], told[2]] == [{"role": "system", "content": "Instructions: be brief"}, {"role": "user", "content": "Shell command: ls\n\ntwine"}]  # fmt: skip
    assert (told[1]["role"], told[1]["content"][:2], "AAAA" in str(told[1]["content"][2:])) == ("user", asked, True)
    assert (of(Start, main)[0].task, first.reasoning, first.prompt_tokens, first.completion_tokens, first.cost, first.duration) == ("Mend the net", "which knot", 25, 3, 0.5, 10**9)  # fmt: skip
    assert [(a.name, a.arguments, a.result, a.ok, a.error, a.duration) for a in of(Action, main)] == [
        ("shell", {"command": "ls"}, "a rope", True, None, 2 * 10**9),
        ("shell", {"command": "x"}, None, False, "no such", None),
    ]
    sent = list(third.request["messages"])
    assert [m["content"] for m in sent[4:]] == ["a rope", "no such", "half an ans", "go on"] and failed.error
    assert "which knot" in sent[3]["content"] and "reasoning_content" not in sent[3]  # another model's thought is sent as text
    left = list(last.request["messages"])
    assert [m["role"] for m in left] == ["user", "user"] and "a net was mended" in left[0]["content"] and left[1]["content"] == "and the oar"  # fmt: skip
    assert [n.name for n in of(Note, main)] == ["model-switched", "compaction", "idle"]
    starts = [of(Start, s)[0].fork for s in (main, child, fork)]
    assert [f and (f.trajectory, f.reason) for f in starts] == [None, (main.id, "sub-agent"), (main.id, "forked")]
    (went_on,) = of(LLMCall, fork)
    assert [m["content"] for m in went_on.request["messages"]][-2:] == ["Shell command: ls\n\ntwine", "no, the sail"]


def test_tools_that_cline_asks_for_in_a_text_are_actions(tmp_path: Path) -> None:
    """What older versions of Cline, Roo and Kilo ask for in XML are actions, each with its arguments, its result and how it went."""
    session = one("cline", write(tmp_path / "1772359200000" / "api_conversation_history.json", agents.in_xml(99)))
    assert [(a.name, a.arguments, a.ok) for a in of(Action, session)] == [
        ("execute_command", {"command": "ls &&\nls", "requires_approval": "false"}, False),
        ("write_to_file", {"path": "a.md", "content": "# a\n<content>b</content>"}, None),
        ("read_file", {"args": "<file><path>a.md</path></file>"}, False),
        ("attempt_completion", {"result": "Mended"}, None),
    ]
    results = [a.result for a in of(Action, session)]
    assert results[0] == f"{agents.IN_TERMINAL}Exit code: 2\nOutput:\ntwine"
    assert results[1] == [agents.said("The content was saved"), agents.XML[4][1][1]]
    assert results[3] == "<feedback>thanks</feedback>"
    calls = of(LLMCall, session)
    assert [a.llm_call for a in of(Action, session)] == [c.id for c in calls[:4]]
    assert calls[1].request is not None and list(calls[1].request["messages"])[2]["content"] == agents.XML[2][1]


@pytest.mark.parametrize(("code", "ok"), [(0, True), (3, False)])
def test_how_a_command_ended_stands_where_each_program_puts_it(tmp_path: Path, code: int, ok: bool) -> None:
    """An exit code says whether a command succeeded: in the text that the model is sent, or in what is kept beside it."""
    written = f"twine\n<exited with exit code {code}>"
    ends = {"type": "tool.execution_complete", "data": {"toolCallId": "c1", "success": True, "result": {"content": written}}}
    events = [{**e, **ends} if e["type"] == "tool.execution_complete" else e for e in agents.COPILOT]
    failed = "<system>ERROR: Command failed with exit code: 3.</system>"
    contexts = [{**e, "content": [agents.said(failed if code else "twine")]} if e["role"] == "tool" else e for e in agents.KIMI]
    state = {"kind": "terminal", "terminalCommandState": {"exitCode": code}}
    invoked = {"kind": "toolInvocationSerialized", "toolCallId": "c1", "toolId": "run_in_terminal", "isComplete": True, "toolSpecificData": state}  # fmt: skip
    (request,) = agents.CHAT["requests"]
    chat = {**agents.CHAT, "requests": [{**request, "response": [*request["response"], invoked]}]}
    roo = [dict(m) for m in agents.CLINE]
    roo[2] = {**roo[2], "content": [result("c1", f"{agents.IN_TERMINAL}Exit code: {code}\nOutput:\nExit code: 7")[0]]}
    sessions = {
        "copilot": lines(tmp_path / "events.jsonl", events),
        "kimi": lines(tmp_path / "0000-aaaa-kimi.jsonl", contexts),
        "copilot-chat": write(tmp_path / "chat.json", chat),
        "cline": write(tmp_path / "1772359200000" / "api_conversation_history.json", roo),
        "cursor": agents.cursor(
            tmp_path / "state.vscdb", status="completed", result=json.dumps({"output": "twine", "exitCodeV2": code})
        ),
    }
    found = {name: of(Action, one(name, path))[0].ok for name, path in sessions.items()}
    assert found == dict.fromkeys(sessions, ok)


def test_thoughts_of_continue_are_of_the_answer_behind_them(tmp_path: Path) -> None:
    """A thought stands before its answer: it is the answer's, in no prompt for it and in all later ones, with its signature."""

    def entry(role: str, content: str, **more: Any) -> dict[str, Any]:
        return {"message": {"role": role, "content": content, **more}, "contextItems": []}

    asked = {"id": "c1", "type": "function", "function": {"name": "run_terminal_command", "arguments": "{}"}}
    ended = {"toolCallId": "c1", "status": "done", "output": [{"name": "Terminal", "content": "twine", "status": "Command failed with exit code 1"}]}  # fmt: skip
    history = [
        entry("user", "Mend"), entry("thinking", "which knot", signature="s"), {**entry("assistant", "", toolCalls=[asked]), "toolCallStates": [ended]},
        entry("assistant", "Mended"), entry("user", "And the oar"), entry("thinking", "which oar"),
    ]  # fmt: skip
    path = write(tmp_path / "c.json", {"sessionId": "c", "workspaceDirectory": "/w", "history": history})
    session = one("continue", path)
    calls = of(LLMCall, session)
    assert [c.reasoning for c in calls] == ["which knot", None]
    assert "which knot" not in prompts(session)[0] and "which knot" in prompts(session)[1]
    assert calls[0].extra is not None and calls[0].extra["thinking"] == [{"content": "which knot", "signature": "s"}]
    assert of(Action, session)[0].ok is False
    (note,) = (n for n in of(Note, session) if n.name == "unanswered")
    assert [m.get("reasoning_content", m["content"]) for m in note.data["messages"]] == ["And the oar", "which oar"]
