"""What the newest versions of agents wrote against a scripted model (late 2026), by hand and in small: each law was seen in what
the model's server had received."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import odograph
from odograph.types import Action, Fork, LLMCall, Start, StepStart

from .scaffold import of, one
from .test_as_they_were import lines, prompts
from .test_growing import GEMINI_EDITOR, T, cc, codex, counts, gemini, result, said, use


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
