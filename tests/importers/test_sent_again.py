"""What a program does not send again, or sends otherwise: replies that failed, calls without a result, thoughts of another model,
results that were cleared. Each rule is in the program's own source, and was seen in what a model's server received."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from odograph.importers import NotBegun, Session, find
from odograph.types import Action, LLMCall, Note, Start

from .scaffold import of, one, write
from .test_as_they_were import lines
from .test_growing import T, cc, codex, said, use

MS = 1_772_359_200_000


def sent(session: Session) -> list[list[Any]]:
    """Of each call's prompt: the content of each message, or the names of the tools that it asks for."""
    return [
        [m["content"] or [c["function"]["name"] for c in m.get("tool_calls", ())] for m in c.request["messages"]]
        for c in of(LLMCall, session)
    ]


class Pi:
    """A session of pi, entry by entry."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = [{"type": "session", "id": "p", "timestamp": T.format(0), "cwd": "/w"}]
        self.last: str | None = None

    def entry(self, kind: str = "message", parent: Any = ..., **about: Any) -> str:
        id = f"e{len(self.entries)}"
        above = self.last if parent is ... else parent
        self.entries.append({"type": kind, "id": id, "parentId": above, "timestamp": T.format(len(self.entries)), **about})
        self.last = id
        return id

    def user(self, said: str, parent: Any = ...) -> str:
        return self.entry(parent=parent, message={"role": "user", "content": said})

    def reply(self, *blocks: Any, model: str = "m", **more: Any) -> str:
        content = [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]
        return self.entry(message={"role": "assistant", "provider": "p", "api": "a", "model": model, "content": content, **more})

    def result(self, id: str, said: str) -> str:
        content = [{"type": "text", "text": said}]
        return self.entry(
            message={"role": "toolResult", "toolCallId": id, "toolName": "bash", "content": content, "isError": False}
        )

    def read(self, folder: Path) -> Session:
        return one("pi-session", lines(folder / "p.jsonl", self.entries))


def call(id: str) -> dict[str, Any]:
    return {"type": "toolCall", "id": id, "name": "bash", "arguments": {"command": id}}


@pytest.mark.parametrize("reason", ["error", "aborted"])
def test_pi_sends_no_reply_again_that_failed(tmp_path: Path, reason: str) -> None:
    pi = Pi()
    pi.user("Row")
    pi.reply("Half", call("c1"), stopReason=reason, errorMessage="gone")
    pi.reply("Rowed", stopReason="stop")
    pi.user("Again")
    pi.reply("Aye")
    session = pi.read(tmp_path)
    assert sent(session) == [["Row"], ["Row"], ["Row", "Rowed", "Again"]]
    assert [c.error for c in of(LLMCall, session)] == ["gone", None, None] and len(of(Action, session)) == 1


def test_pi_answers_calls_without_a_result(tmp_path: Path) -> None:
    """A person went on before a tool had ended."""
    pi = Pi()
    pi.user("Row")
    pi.reply(call("c1"), call("c2"))
    pi.result("c2", "splash")
    pi.user("Stop")
    pi.reply("Stopped")
    session = pi.read(tmp_path)
    assert sent(session)[1] == ["Row", ["bash", "bash"], "splash", "No result provided", "Stop"]
    assert of(LLMCall, session)[1].request["messages"][3]["tool_call_id"] == "c1"
    assert [a.result is None for a in of(Action, session)] == [True, False]


def test_pi_tells_thoughts_of_another_model_as_text(tmp_path: Path) -> None:
    pi = Pi()
    pi.user("Row")
    pi.reply({"type": "thinking", "thinking": "hm", "thinkingSignature": "s"}, {"type": "thinking", "redacted": True}, "Aye")
    for model, asked in (("n", "Faster"), ("m", "Slower")):
        pi.user(asked)
        pi.reply("Aye", model=model)
    calls = of(LLMCall, pi.read(tmp_path))
    assert calls[1].request["messages"][1] == {"role": "assistant", "content": "hmAye"}
    assert calls[2].request["messages"][1] == {"role": "assistant", "content": "Aye", "reasoning_content": "hm"}


def test_what_two_compactions_of_pi_kept(tmp_path: Path) -> None:
    """The later one keeps messages on both sides of the earlier one. A branch that begins at the root begins with nothing."""
    pi = Pi()
    pi.user("One")
    kept = pi.user("Two")
    pi.reply("Aye")
    pi.entry("compaction", summary="SUM1", firstKeptEntryId=kept)
    pi.user("Three")
    pi.entry("compaction", summary="SUM2", firstKeptEntryId=kept)
    pi.user("Four")
    pi.reply("Aye")
    pi.user("Anew", parent=None)
    pi.reply("Aye")
    found = sent(pi.read(tmp_path))
    assert "<summary>\nSUM2\n</summary>" in found[1][0] and found[1][1:] == ["Two", "Aye", "Three", "Four"]
    assert found[2] == ["Anew"]


def test_pis_oldest_files_are_lists(tmp_path: Path) -> None:
    pi = Pi()
    for asked in ("One", "Two"):
        pi.user(asked)
        pi.reply(f"Aye {asked}")
    pi.entry("compaction", summary="SUM", firstKeptEntryIndex=3)
    pi.reply("Aye")
    pi.entries = [{k: v for k, v in e.items() if k not in ("id", "parentId") or e["type"] == "session"} for e in pi.entries]
    assert sent(pi.read(tmp_path))[2][1:] == ["Two", "Aye Two"]


# --- Claude Code ----------------------------------------------------------------------------------------------------------


def results(*answers: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"type": "tool_result", "tool_use_id": id, "content": content} for id, content in answers]


def test_what_a_micro_compaction_of_claude_code_cleared(tmp_path: Path) -> None:
    """The boundary names the tools whose results are sent as a sentence from then on. The conversation goes on, and can be gone back
    in; what was sent before stays."""
    cleared = {"compactedToolIds": ["t1"], "clearedAttachmentUUIDs": []}
    talk = [
        cc(1, "user", "One", None),
        cc(2, "assistant", [*use("t1", command="ls"), *use("t2", command="pwd")]),
        cc(3, "user", results(("t1", "OARS"), ("t2", "SHIP"))),
        cc(4, "assistant", "Aye"),
        cc(5, "user", "Two"),
        cc(6, "system", None, subtype="microcompact_boundary", microcompactMetadata=cleared),
        cc(7, "assistant", "Aye two"),
        cc(8, "user", "Three"),
        cc(9, "assistant", "Aye three"),
        cc(10, "user", "Another three", "u7"),
        cc(11, "assistant", "Aye again"),
    ]
    calls = of(LLMCall, one("claude-code", lines(tmp_path / "c.jsonl", talk)))
    told = [json.dumps(list(c.request["messages"])) for c in calls]
    assert ["OARS" in t for t in told] == [False, True, False, False, False]
    assert ["Old tool result content cleared" in t for t in told] == [False, False, True, True, True]
    assert all("SHIP" in t and "Two" in t for t in told[2:]) and "Aye three" not in told[4]


@pytest.mark.parametrize("more", [[], [{"type": "text", "text": "Looking"}]], ids=["alone", "beside a text"])
def test_calls_that_a_killed_claude_code_left(tmp_path: Path, more: list[dict[str, Any]]) -> None:
    """A session is resumed whose tool never ended: the call is not sent again. Prompts can go back behind it. Where nothing tells of
    a resume, the call stays."""
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    nothing = cc(4, "assistant", [{"type": "text", "text": "No response requested."}])
    nothing["message"]["model"] = "<synthetic>"
    resumed = [cc(3, "user", [{"type": "text", "text": "Continue from where you left off."}], isMeta=True), nothing]
    begun = [cc(1, "user", "One", None), cc(2, "assistant", [thought, *more, *use("t1", command="sleep")])]
    talk = [
        *resumed,
        cc(5, "user", "Two"),
        cc(6, "assistant", "Aye"),
        cc(7, "user", "Three"),
        cc(8, "assistant", "Aye three"),
        cc(9, "user", "Another three", "u6"),
        cc(10, "assistant", "Aye again"),
    ]
    session = one("claude-code", lines(tmp_path / "c.jsonl", [*begun, *talk]))
    told = [[m[0].get("text", m[0]["type"]) if isinstance(m, list) else m for m in prompt] for prompt in sent(session)]
    left = ["thinking"] if more else []
    went_on = ["Continue from where you left off.", "No response requested."]
    assert told[1] == ["One", *left, *went_on, "Two"]
    assert told[3] == ["One", *left, *went_on, "Two", "Aye", "Another three"]
    assert [a.result for a in of(Action, session)] == [None]
    stopped = one("claude-code", lines(tmp_path / "d.jsonl", [*begun, cc(3, "user", "Two"), cc(4, "assistant", "Aye")]))
    assert "sleep" in json.dumps(sent(stopped)[1]) or "tool_use" in json.dumps(sent(stopped)[1])


def test_attachments_stand_behind_an_error_of_the_api(tmp_path: Path) -> None:
    """An error that the program wrote in the model's place ends what attachments are sent before, though it is not sent."""
    failed = cc(3, "assistant", "API Error: 529", isApiErrorMessage=True)
    failed["message"]["model"] = "<synthetic>"

    def told(n: int, said: str) -> dict[str, Any]:
        return cc(n, "attachment", None, attachment={"type": "skill_listing", "content": said})

    talk = [cc(1, "user", "One", None), told(2, "A"), failed, cc(4, "user", "Two"), told(5, "B"), cc(6, "assistant", "Aye")]
    session = one("claude-code", lines(tmp_path / "c.jsonl", talk))
    assert sent(session) == [["A", "One", "B", "Two"]]


# --- OpenCode -------------------------------------------------------------------------------------------------------------


def asks(n: int, *parts: Any) -> dict[str, Any]:
    about = {"id": f"m{n}", "role": "user", "time": {"created": MS + n}}
    return {"info": about, "parts": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]}


def answers(n: int, *parts: Any, model: str = "m", **more: Any) -> dict[str, Any]:
    about = {"role": "assistant", "providerID": "p", "modelID": model, "time": {"created": MS + n, "completed": MS + n}, **more}
    return {**asks(n, *parts), "info": {**about, "id": f"m{n}"}}


def tool(id: str, status: str = "completed", **state: Any) -> dict[str, Any]:
    return {"type": "tool", "tool": "bash", "callID": id, "state": {"status": status, "input": {}, **state}}


def exported(folder: Path, *messages: dict[str, Any]) -> Session:
    info = {"id": "s", "slug": "x", "directory": "/w", "time": {"created": MS}}
    return one("opencode", write(folder / "o.json", {"info": info, "messages": list(messages)}))


def test_opencode_sends_no_reply_again_that_failed(tmp_path: Path) -> None:
    """One that a person stopped is sent again as far as it came."""
    session = exported(
        tmp_path,
        asks(1, "Row"),
        answers(2, "Half", error={"name": "APIError", "data": {}}),
        asks(3, "Again"),
        answers(4, {"type": "reasoning", "text": "hm"}, error={"name": "MessageAbortedError"}),
        answers(5, "Half a stroke", error={"name": "MessageAbortedError"}),
        asks(6, "On"),
        answers(7, "Aye"),
    )
    assert sent(session)[3] == ["Row", "Again", "Half a stroke", "On"]
    assert len(of(LLMCall, session)) == 4


def test_what_opencode_sends_of_tools(tmp_path: Path) -> None:
    """A result that was cleared since, a tool that was stopped with an output, one that never ended."""
    session = exported(
        tmp_path,
        asks(1, "Row"),
        answers(
            2,
            tool("c1", output="splash", time={"start": MS, "end": MS, "compacted": MS + 6}),
            tool("c2", "error", error="aborted", metadata={"interrupted": True, "output": "half"}),
            tool("c3", "running"),
            tool("c4", "error", error="no oar"),
        ),
        answers(5, "Aye"),
        asks(7, "On"),
        answers(8, "Aye"),
    )
    interrupted = "[Tool execution was interrupted]"
    first, second = sent(session)[1:]
    assert first[2:] == ["splash", "half", interrupted, "no oar"]
    assert second[2:6] == ["[Old tool result content cleared]", "half", interrupted, "no oar"]
    assert [a.result for a in of(Action, session)] == ["splash", None, None, None]


def test_opencode_tells_thoughts_of_another_model_as_text(tmp_path: Path) -> None:
    thought = {"type": "reasoning", "text": "hm"}
    session = exported(
        tmp_path,
        asks(1, "Row"),
        answers(2, thought, "Aye"),
        answers(3, "Aye", model="n"),
        answers(4, "Aye"),
    )
    second, third = (c.request["messages"][1] for c in of(LLMCall, session)[1:])
    assert second == {"role": "assistant", "content": "hm\nAye"}
    assert third == {"role": "assistant", "content": "Aye", "reasoning_content": "hm"}


def test_an_image_of_opencode_is_an_image(tmp_path: Path) -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    image = {"type": "file", "mime": "image/png", "filename": "x.png", "url": url}
    (call,) = of(LLMCall, exported(tmp_path, asks(1, "Row", image), answers(2, "Aye")))
    assert call.request["messages"][0]["content"][1] == {"type": "image_url", "image_url": {"url": url}}


def test_what_a_compaction_of_opencode_kept(tmp_path: Path) -> None:
    """The summary is asked for without what stays, which stands behind the summary from then on. Files that were read are in a text."""
    read = {"type": "file", "mime": "text/plain", "filename": "a.txt", "url": "file:///a.txt"}
    session = exported(
        tmp_path,
        asks(1, "One"),
        answers(2, "Aye 1"),
        asks(3, "Two", read),
        answers(4, "Aye 2"),
        asks(5, {"type": "compaction", "auto": True, "tail_start_id": "m3"}),
        answers(6, "SUM", summary=True, finish="stop", parentID="m5"),
        asks(7, "Three"),
        answers(8, "Aye 3"),
        asks(9, {"type": "compaction", "auto": True, "tail_start_id": "m7"}),
        answers(10, "SUM2", summary=True, finish="stop", parentID="m9"),
        answers(11, "Aye 4"),
    )
    found = sent(session)
    assert found[2] == ["One", "Aye 1"]
    assert found[3] == ["What did we do so far?", "SUM", "Two", "Aye 2", "Three"]
    assert found[5] == ["What did we do so far?", "SUM2", "Three", "Aye 3"]


# --- Gemini CLI -----------------------------------------------------------------------------------------------------------


def test_a_resumed_gemini_session_sends_what_its_list_says(tmp_path: Path) -> None:
    """A resume writes the whole history with calls and results as parts. That list is what is sent, results twice and all."""

    def answered(id: str, said: str) -> dict[str, Any]:
        return {"functionResponse": {"id": id, "name": "ls", "response": {"output": said}}}

    asked = {"functionCall": {"id": "c1", "name": "ls", "args": {}}}
    image = {"inlineData": {"mimeType": "image/png", "data": "aaaa"}}
    calls = [{"id": "c1", "name": "ls", "args": {}, "result": [answered("c1", "oars")], "status": "success"}]
    first = {"id": "g1", "type": "gemini", "content": "Looking", "toolCalls": calls, "tokens": {"input": 3, "output": 1}}
    resumed = [
        {"id": "u1", "type": "user", "content": [{"text": "Look"}]},
        {**first, "content": [{"text": "Looking"}, asked]},
        {"id": "g1", "type": "user", "content": [answered("c1", "oars"), image, answered("c1", "oars")]},
        {"id": "u2", "type": "user", "content": [answered("c1", "oars")]},
        {"id": "g2", "type": "gemini", "content": [{"text": "Oars"}]},
    ]
    session = one(
        "gemini-cli",
        lines(
            tmp_path / "g.jsonl",
            [
                {"sessionId": "s", "projectHash": "h", "startTime": T.format(0)},
                resumed[0],
                first,
                resumed[3],
                {"id": "g2", "type": "gemini", "content": "Oars", "tokens": {"input": 5, "output": 1}},
                {"$set": {"messages": resumed}},
                {"id": "u3", "type": "user", "content": [{"text": "More"}]},
                {"id": "g3", "type": "gemini", "content": "Sail", "tokens": {"input": 9, "output": 1}},
            ],
        ),
    )
    assert sent(session) == [
        ["Look"],
        ["Look", "Looking", "oars"],
        ["Look", "Looking", "oars", [image], "oars", "oars", "Oars", "More"],
    ]
    assert len(of(Action, session)) == 1 and "c1" in json.dumps(of(LLMCall, session)[2].request["messages"][1])


# --- aider ----------------------------------------------------------------------------------------------------------------


def chat_of(*said: str) -> str:
    """A chat as aider writes it: `said` is what a person (`#### `) or the program (`> `) says, or the model."""
    lines = [s + "  \n" if s.startswith("> ") else f"\n{s}  \n" if s.startswith("#### ") else f"\n{s}\n\n" for s in said]
    return "\n# aider chat started at 2026-03-01 10:00:00\n\n" + "".join(lines)


BLOCK = "a.txt\n<<<<<<< SEARCH\noar\n=======\nsail\n>>>>>>> REPLACE"


def test_marks_in_an_answer_of_aider_are_no_other_speaker(tmp_path: Path) -> None:
    """An edit ends with `>>>>>>> REPLACE`. A heading and a quotation in an answer are the model's."""
    said = f"Sure\n\n{BLOCK}\n\n#### Why\n\n> a sail is faster\n\nSo it is"
    (path := tmp_path / ".aider.chat.history.md").write_text(
        chat_of(
            "> Aider v0.86", "#### Row", said, "> Tokens: 1.9k sent, 19 received.", "> Applied edit to a.txt", "#### On", "Aye"
        )
    )
    session = one("aider", path)
    assert [c.response["content"] for c in of(LLMCall, session)] == [said, "Aye"]
    assert sent(session) == [["Row"], ["Row", said, "On"]]
    assert of(LLMCall, session)[0].completion_tokens == 19


def test_an_edit_of_aider_that_failed_is_told_to_the_model(tmp_path: Path) -> None:
    failed = f"# 1 SEARCH/REPLACE block failed to match!\n\n## SearchReplaceNoExactMatch\n{BLOCK}\n\nLook again"
    (path := tmp_path / ".aider.chat.history.md").write_text(
        chat_of("> Aider v0.86", "#### Row", BLOCK, "> The LLM did not conform to the edit format.", f"> {failed}", "Fixed")
    )
    assert sent(one("aider", path)) == [["Row"], ["Row", BLOCK, failed]]


def test_commands_of_aider_are_not_sent(tmp_path: Path) -> None:
    """A command that asks says its question again. After `/clear` prompts begin anew."""
    (path := tmp_path / ".aider.chat.history.md").write_text(
        chat_of(
            "> Aider v0.86", "#### /add a.txt", "#### /ask Why", "#### Why", "So", "#### /clear", "> All gone", "#### Row", "Aye"
        )
    )
    session = one("aider", path)
    assert sent(session) == [["Why"], ["Row"]] and of(Start, session)[0].task == "Why"
    assert [n.data["text"] for n in of(Note, session) if n.name == "command"] == ["/add a.txt", "/ask Why", "/clear"]


# --- Droid ----------------------------------------------------------------------------------------------------------------


def droid(n: int, role: str, *blocks: Any, above: str | None = None, **more: Any) -> dict[str, Any]:
    """A message of Droid, which hangs on the message before it."""
    content = [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]
    about = {"type": "message", "id": f"d{n}", "parentId": above or f"d{n - 1}", "timestamp": T.format(n)}
    return {**about, "message": {"role": role, "content": content, **more}}


def test_droid_sends_what_its_messages_say(tmp_path: Path) -> None:
    """What was shown to the person alone is not sent, nor are thoughts to a server that takes none; a prompt may go back, and a
    compaction keeps what stands behind its anchor. A message has its own model."""
    thought = {"type": "thinking", "thinking": "hm", "signatureProvider": "generic-chat-completion-api"}
    talk = [
        {"type": "session_start", "id": "s", "cwd": "/w"},
        droid(1, "user", "<system-reminder>x</system-reminder>", "One"),
        droid(2, "assistant", thought, "Aye one", modelId="m"),
        droid(3, "user", "Shown", visibility="user_only"),
        droid(4, "user", "Two"),
        droid(5, "assistant", "Aye two", modelId="n"),
        droid(6, "user", "Another two", above="d2"),
        droid(7, "assistant", "Aye another"),
        {"type": "compaction_state", "id": "c", "summaryText": "SUM", "anchorMessage": {"id": "d2", "index": 1}},
        droid(8, "user", "Three"),
        droid(9, "assistant", "Aye three"),
    ]
    session = one("droid", lines(tmp_path / "s.jsonl", talk))
    first = [{"type": "text", "text": t} for t in ("<system-reminder>x</system-reminder>", "One")]
    told = [[c if c == first else c[0]["text"] if isinstance(c, list) else c for c in prompt] for prompt in sent(session)]
    assert told == [
        [first],
        [first, "Aye one", "Two"],
        [first, "Aye one", "Another two"],
        ["SUM", "Another two", "Aye another", "Three"],
    ]
    assert [c.model for c in of(LLMCall, session)] == ["m", "n", None, None]
    assert (of(Start, session)[0].task, of(LLMCall, session)[0].reasoning) == ("One", "hm")


def test_a_fork_of_droid_shares_its_history(tmp_path: Path) -> None:
    parent = [
        {"type": "session_start", "id": "s", "cwd": "/w"},
        droid(1, "user", "One"),
        droid(2, "assistant", "Aye one"),
        {"type": "agent_turn_outcome", "reason": "completed"},
    ]
    forked = [{**parent[0], "id": "f", "parent": "s", "forkedAtMessageId": "d2"}, *parent[1:]]
    own = [droid(3, "user", "Two"), droid(4, "assistant", "Aye two")]
    of_parent = one("droid", lines(tmp_path / "s.jsonl", parent))
    session = one("droid", lines(tmp_path / "f.jsonl", [*forked, *own]))
    start, (call,) = of(Start, session)[0], of(LLMCall, session)
    assert start.task == "Two" and start.fork is not None
    assert (start.fork.trajectory, start.fork.step, start.fork.reason) == (of_parent.id, 1, "forked")
    assert [m["content"][0]["text"] for m in call.request["messages"]] == ["One", "Aye one", "Two"]
    with pytest.raises(NotBegun):
        list(find("droid").read(lines(tmp_path / "e.jsonl", forked)))
    helper = {**parent[0], "id": "h", "callingSessionId": "s", "callingToolUseId": "t1"}
    begun = of(Start, one("droid", lines(tmp_path / "h.jsonl", [helper, *parent[1:]])))[0]
    assert begun.fork is not None and (begun.fork.trajectory, begun.fork.reason) == (of_parent.id, "sub-agent")


# --- Codex ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "answer"), [("function_call", "function_call_output"), ("custom_tool_call", "custom_tool_call_output")]
)
def test_codex_answers_calls_that_nothing_answered(tmp_path: Path, kind: str, answer: str) -> None:
    """A run was killed while a tool ran, and the thread was resumed. A call that was answered late is no such call."""
    talk = [
        codex("session_meta", 0, id="s", timestamp=T.format(0)),
        said(1, "Row"),
        codex("response_item", 2, type=kind, call_id="c1", name="sh", arguments="{}"),
        codex("response_item", 2, type=kind, call_id="c2", name="sh", arguments="{}"),
        codex("event_msg", 3, type="token_count", info={"total_token_usage": {"total_tokens": 3}, "last_token_usage": {}}),
        codex("response_item", 4, type=answer, call_id="c2", output="oars"),
        said(5, "On"),
        said(6, "Aye", "assistant"),
        codex("event_msg", 7, type="token_count", info={"total_token_usage": {"total_tokens": 6}, "last_token_usage": {}}),
        said(8, "More"),
        said(9, "Aye", "assistant"),
    ]
    session = one("codex", lines(tmp_path / "s.jsonl", talk))
    calls = of(LLMCall, session)
    told = [(i["type"], i.get("call_id"), i.get("output")) for i in calls[1].request["input"]]
    assert told[1:5] == [(kind, "c1", None), (answer, "c1", "aborted"), (kind, "c2", None), (answer, "c2", "oars")]
    assert [len(c.request["input"]) for c in calls] == [1, 6, 8]
    assert [a.result for a in of(Action, session)] == [None, "oars"]


# --- Qwen Code ------------------------------------------------------------------------------------------------------------


def test_a_tool_of_qwen_code_that_a_person_refused(tmp_path: Path) -> None:
    """In an editor the file has no result of such a tool: telemetry says what the model is told. Of a tool with a result the result
    counts."""

    def line(n: int, kind: str, *parts: Any, **more: Any) -> dict[str, Any]:
        message = {"message": {"role": "model" if kind == "assistant" else "user", "parts": list(parts)}} if parts else {}
        above = f"q{n - 1}" if n else None
        return {"uuid": f"q{n}", "parentUuid": above, "sessionId": "s", "timestamp": T.format(n), "type": kind, **message, **more}

    def telemetry(n: int, id: str, error: str) -> dict[str, Any]:
        told = {"event.name": "qwen-code.tool_call", "function_name": "rm", "function_args": {"path": id}}
        return line(n, "system", subtype="ui_telemetry", systemPayload={"uiEvent": {**told, "success": False, "error": error}})

    calls = [{"functionCall": {"id": id, "name": "rm", "args": {"path": id}}} for id in ("c1", "c2")]
    result = {"functionResponse": {"id": "c2", "name": "rm", "response": {"error": "no such oar"}}}
    talk = [
        line(0, "user", {"text": "Row"}),
        line(1, "assistant", *calls),
        telemetry(2, "c1", "canceled by the user"),
        telemetry(3, "c2", "not found"),
        line(4, "tool_result", result, toolCallResult={"callId": "c2", "status": "error"}),
        line(5, "user", {"text": "On"}),
        line(6, "assistant", {"text": "Aye"}),
    ]
    session = one("qwen-code", lines(tmp_path / "q.jsonl", talk))
    assert sent(session)[1] == ["Row", ["rm", "rm"], "no such oar", "canceled by the user", "On"]
    assert [(a.result, a.ok) for a in of(Action, session)] == [("canceled by the user", False), ("no such oar", False)]
