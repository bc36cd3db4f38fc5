"""A file that grows while it is imported again and again: the end is as one import of the whole, for every importer of lines."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import odograph

from .agents import LINES

T = "2026-03-01T10:00:{:02d}.000Z"


def cc(n: int, kind: str, content: Any, parent: str | None = "-", reply: str | None = None, **more: Any) -> dict[str, Any]:
    """A line of Claude Code: `u<n>`, which hangs on the line before it."""
    message: dict[str, Any] = {"role": kind, "content": content}
    if kind == "assistant":
        message |= {"id": reply or f"m{n}", "model": "claude-x", "stop_reason": "end_turn"}
        message["usage"] = {"input_tokens": 3, "cache_read_input_tokens": 10, "output_tokens": n}
    above = f"u{n - 1}" if parent == "-" else parent
    about = {"uuid": f"u{n}", "parentUuid": above, "sessionId": "s", "timestamp": T.format(n), "isSidechain": False}
    return {**about, "type": kind, **({"message": message} if content is not None else {}), **more}


def use(id: str, name: str = "Bash", **given: Any) -> list[dict[str, Any]]:
    return [{"type": "tool_use", "id": id, "name": name, "input": given}]


def result(id: str, content: str) -> list[dict[str, Any]]:
    return [{"type": "tool_result", "tool_use_id": id, "content": content}]


CLAUDE = [
    {"type": "summary", "summary": "x", "leafUuid": "z"},
    cc(1, "user", "<command-name>/clear</command-name>", None),
    cc(2, "user", "Tie a knot"),
    cc(3, "assistant", [{"type": "thinking", "thinking": "hm"}], reply="m3"),
    cc(4, "assistant", use("t1", c="ls"), reply="m3"),
    cc(5, "user", result("t1", "rope")),
    cc(6, "attachment", None, attachment={"type": "queued_command", "prompt": "a tight one"}),
    cc(7, "assistant", use("t2", "Task", prompt="find twine", subagent_type="Explore")),
    cc(8, "user", "find twine", None, isSidechain=True, agentId="ag"),
    cc(9, "assistant", [{"type": "text", "text": "by the door"}], isSidechain=True, agentId="ag"),
    cc(10, "user", result("t2", "by the door"), "u7"),
    cc(11, "assistant", [{"type": "text", "text": "Tied"}]),
    cc(12, "user", "Now a bow"),
    cc(13, "user", "No, a loop", "u11"),
    cc(14, "assistant", [{"type": "text", "text": "Looped"}]),
    cc(15, "system", None, None, subtype="compact_boundary", compactMetadata={"preservedSegment": {"headUuid": "u13", "anchorUuid": "u16", "tailUuid": "u14"}}),
    cc(16, "user", "So far: knots", isCompactSummary=True),
    cc(17, "assistant", [{"type": "text", "text": "Onwards"}], "u14"),
    cc(18, "user", "Enough"),
]  # fmt: skip


def codex(kind: str, n: int, **payload: Any) -> dict[str, Any]:
    return {"timestamp": T.format(n), "type": kind, "payload": payload}


def said(n: int, text: str, role: str = "user") -> dict[str, Any]:
    part = {"type": "input_text" if role == "user" else "output_text", "text": text}
    return codex("response_item", n, type="message", role=role, content=[part])


def counts(n: int, total: int) -> dict[str, Any]:
    usage = {"input_tokens": total - 2, "output_tokens": 2, "total_tokens": total}
    last = {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10}
    return codex("event_msg", n, type="token_count", info={"total_token_usage": usage, "last_token_usage": last})


def call(n: int, id: str) -> dict[str, Any]:
    return codex("response_item", n, type="function_call", name="shell", arguments='{"cmd": "ls"}', call_id=id)


CODEX = [
    codex("session_meta", 0, id="019d0000-0000-7000-8000-0000000000aa", timestamp=T.format(0), cli_version="1"),
    codex("turn_context", 0, model="gpt-x"),
    said(1, "Sort the shells"),
    codex("event_msg", 1, type="user_message", message="Sort the shells"),
    codex("response_item", 2, type="reasoning", id="rs1", summary=[{"type": "summary_text", "text": "by size"}]),
    call(2, "c1"),
    codex("event_msg", 3, type="exec_command_end", call_id="c1", exit_code=1, duration={"secs": 1, "nanos": 5}),
    call(3, "c2"),
    counts(4, 10),
    codex("response_item", 5, type="function_call_output", call_id="c1", output="Exit code: 1\nWall time: 2 seconds\nOutput:\nx"),
    codex("response_item", 5, type="function_call_output", call_id="c2", output="fine"),
    said(6, "Sorted", "assistant"),
    counts(6, 20),
    said(7, "And the stones"),
    said(8, "Not the stones", "assistant"),
    counts(8, 30),
    codex("event_msg", 9, type="thread_rolled_back", num_turns=1),
    said(10, "The driftwood then"),
    said(11, "Done", "assistant"),
    codex("compacted", 12, message="shells and driftwood"),
    said(13, "Thanks"),
]


def gemini(n: int, kind: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"id": f"g{n}", "timestamp": T.format(n), "type": kind, "content": content, **more}


ASKED = {"id": "k1", "name": "read", "args": {}, "status": "executing", "timestamp": T.format(2)}
READ = {**ASKED, "status": "success", "result": [{"functionResponse": {"id": "k1", "response": {"output": "moss"}}}]}
TOKENS = {"input": 5, "output": 2}
GEMINI = [
    {"sessionId": "g", "projectHash": "h", "startTime": T.format(0), "kind": "main"},
    gemini(1, "user", [{"text": "Look under it"}]),
    gemini(2, "gemini", "", model="gem", toolCalls=[ASKED]),
    {"$set": {"lastUpdated": T.format(3)}},
    gemini(2, "gemini", "", model="gem", tokens=TOKENS, toolCalls=[READ]),
    gemini(3, "gemini", "Moss", model="gem", tokens=TOKENS),
    gemini(4, "user", [{"text": "And behind it"}]),
    gemini(5, "gemini", "Fern", model="gem", tokens=TOKENS),
    {"$rewindTo": "g4"},
    gemini(6, "user", [{"text": "And above it"}]),
    gemini(7, "gemini", "Sky", model="gem", tokens=TOKENS),
    {"$set": {"messages": [gemini(8, "user", "So far: moss, sky")]}},
    gemini(9, "user", [{"text": "Go on"}]),
    gemini(10, "info", "compressed"),
]


def qwen(n: int, kind: str, *parts: dict[str, Any], parent: str | None = "-", **more: Any) -> dict[str, Any]:
    about = {"uuid": f"q{n}", "parentUuid": f"q{n - 1}" if parent == "-" else parent, "sessionId": "s", "timestamp": T.format(n)}
    message = {"role": "model" if kind == "assistant" else "user", "parts": list(parts)}
    return {**about, "type": kind, **({"message": message} if parts else {}), **more}


QWEN = [
    qwen(1, "user", {"text": "Clip it"}, parent=None),
    qwen(2, "assistant", {"text": "hm", "thought": True}, {"functionCall": {"id": "c", "name": "clip", "args": {"n": 1}}}, model="q"),
    qwen(3, "tool_result", {"functionResponse": {"id": "c", "response": {"output": "clipped"}}}, toolCallResult={"status": "success"}),
    qwen(4, "assistant", {"text": "Clipped"}, model="q", usageMetadata={"promptTokenCount": 9, "candidatesTokenCount": 1}),
    qwen(5, "user", {"text": "Now the other"}),
    qwen(6, "user", {"text": "No, sweep"}, parent="q4"),
    qwen(7, "assistant", {"text": "Swept"}, model="q"),
    qwen(8, "system", subtype="chat_compression", systemPayload={"compressedHistory": [{"role": "user", "parts": [{"text": "so far"}]}]}),
    qwen(9, "user", {"text": "Bye"}),
]  # fmt: skip
CHAT = [
    {"messages": [{"role": "user", "content": "One"}, {"role": "assistant", "content": "1"}]},
    {"messages": [{"role": "user", "content": "Two"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "Ta"}]},
    {"messages": [{"role": "user", "content": "One"}, {"role": "assistant", "content": "1"}]},
]
HANDS = [
    {
        "instance_id": f"i{n}",
        "instruction": "Hum",
        "test_result": {},
        "metadata": {"llm": {"model": "m"}},
        "history": [
            {"kind": "MessageEvent", "id": f"e{n}", "timestamp": T.format(n), "source": "agent", "llm_message": {"role": "assistant", "content": "hm"}},
        ],
    }
    for n in range(3)
]  # fmt: skip
ELIZA = [
    {"trajectoryId": f"e{n}", "agentId": "a", "startTime": 1_760_000_000_000, "steps": [{"stepNumber": 0, "llmCalls": [{"callId": "l", "model": "m", "response": "x"}]}]}
    for n in range(3)
]  # fmt: skip
STREAM = [
    {"type": "system", "subtype": "init", "session_id": "s", "model": "claude-x", "tools": ["Bash"], "cwd": "/w"},
    {"type": "assistant", "session_id": "s", "uuid": "a", "parent_tool_use_id": None,
     "message": {"id": "m1", "role": "assistant", "model": "claude-x", "content": use("t1", "Task", prompt="sew"), "usage": {"input_tokens": 2, "cache_read_input_tokens": 5, "output_tokens": 1}}},
    {"type": "assistant", "session_id": "s", "uuid": "b", "parent_tool_use_id": "t1",
     "message": {"id": "m2", "role": "assistant", "model": "claude-x", "content": [{"type": "text", "text": "sewn"}]}},
    {"type": "user", "session_id": "s", "uuid": "c", "parent_tool_use_id": None, "message": {"role": "user", "content": result("t1", "sewn")}},
    {"type": "assistant", "session_id": "s", "uuid": "d", "parent_tool_use_id": None,
     "message": {"id": "m3", "role": "assistant", "model": "claude-x", "content": [{"type": "text", "text": "Done"}]}},
    {"type": "result", "subtype": "success", "is_error": False, "session_id": "s", "result": "Done", "total_cost_usd": 0.25, "duration_ms": 9},
]  # fmt: skip
EXEC = [
    {"type": "thread.started", "thread_id": "t"},
    {"type": "turn.started"},
    {"type": "item.started", "item": {"id": "i0", "type": "command_execution", "command": "ls", "status": "in_progress"}},
    {"type": "item.completed", "item": {"id": "i0", "type": "command_execution", "command": "ls", "aggregated_output": "x", "exit_code": 1, "status": "failed"}},
    {"type": "item.completed", "item": {"id": "i1", "type": "agent_message", "text": "Nothing"}},
    {"type": "turn.completed", "usage": {"input_tokens": 9, "cached_input_tokens": 4, "output_tokens": 2}},
]  # fmt: skip
PI = [
    {"type": "session", "id": "p", "timestamp": T.format(0), "cwd": "/w", "modelId": "m"},
    {"type": "message", "id": "1", "parentId": None, "timestamp": T.format(1), "message": {"role": "user", "content": [{"type": "text", "text": "Dig"}]}},
    {"type": "message", "id": "2", "parentId": "1", "timestamp": T.format(2), "message": {"role": "assistant", "model": "m", "stopReason": "toolUse",
     "content": [{"type": "thinking", "thinking": "how", "thinkingSignature": "sig"}, {"type": "toolCall", "id": "k", "name": "bash", "arguments": {"c": "dig"}}],
     "usage": {"input": 1, "cacheRead": 10, "cacheWrite": 5, "output": 2, "cost": {"total": 0.5}}}},
    {"type": "message", "id": "3", "parentId": "2", "timestamp": T.format(3), "message": {"role": "toolResult", "toolCallId": "k", "content": [{"type": "text", "text": "dug"}], "isError": False}},
    {"type": "message", "id": "4", "parentId": "3", "timestamp": T.format(4), "message": {"role": "user", "content": "Deeper"}},
    {"type": "message", "id": "5", "parentId": "3", "timestamp": T.format(5), "message": {"role": "user", "content": "Fill it"}},
    {"type": "message", "id": "6", "parentId": "5", "timestamp": T.format(6), "message": {"role": "assistant", "content": [{"type": "text", "text": "Filled"}]}},
]  # fmt: skip
VERIFIED = {"id": 3, "prompt": [{"role": "user", "content": "Sum"}], "task": "sums", "reward": 0.5, "right": 1.0, "generation_ms": 5.0,
            "completion": [{"role": "assistant", "content": "", "tool_calls": ['{"id": "c", "function": {"name": "add", "arguments": "{\\"a\\": 1}"}}']},
                           {"role": "tool", "content": "2"}, {"role": "assistant", "content": "2"}]}  # fmt: skip
SHARE = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
                           {"from": "observation", "value": "one"}, {"from": "gpt", "value": "One"}], "system": "Be kind", "source": "mine"}  # fmt: skip
ALPACA = {"instruction": "Translate", "input": "Hund", "output": "dog"}
FILES: dict[str, tuple[str, list[Any]]] = {
    "claude-stream": ("h.jsonl", STREAM),
    "codex-exec": ("i.jsonl", EXEC),
    "pi-session": ("j.jsonl", PI),
    "verifiers": ("k.jsonl", [VERIFIED, {**VERIFIED, "id": 4}]),
    "sharegpt": ("l.jsonl", [SHARE, ALPACA]),
    "claude-code": ("a.jsonl", CLAUDE),
    "codex": ("b.jsonl", CODEX),
    "gemini-cli": ("c.jsonl", GEMINI),
    "qwen-code": ("d.jsonl", QWEN),
    "openai-chat": ("e.jsonl", CHAT),
    "openhands": ("output.jsonl", HANDS),
    "eliza": ("g.jsonl", ELIZA),
    **LINES,
}


def content(store: odograph.Store) -> dict[str, Any]:
    """All that the trajectories of a store say, by the id that each record had first; and what lists show of them."""
    found: dict[str, Any] = {}
    for t in store.trajectories():
        first: dict[str, str] = {}
        for record in t.records:
            first[record.id] = first.get(record.supersedes or "", record.supersedes) or record.id
        replaced = {r.supersedes for r in t.records if r.supersedes}
        for record in t.complete_records():
            if record.id not in replaced:
                value = msgspec.to_builtins(record, enc_hook=list)
                for name in ("id", "seq", "time", "writer", "supersedes", "packed", "packed_by"):
                    value.pop(name, None)
                found[first[record.id]] = value
        found[f"calls of {t.id}"] = [(c.step, c.agent, c.response) for c in t.llm_calls]
    for s in store.summaries():
        about = (
            s.task,
            s.agent,
            s.model,
            s.steps,
            s.llm_calls,
            s.actions,
            s.prompt_tokens,
            s.completion_tokens,
            s.status,
            s.started,
        )
        found[f"summary of {s.id}"] = about
    return found


def grown(folder: Path, name: str, cuts: list[int]) -> tuple[dict[str, Any], dict[str, Any]]:
    file, values = FILES[name]
    whole = b"".join(json.dumps(v).encode() + b"\n" for v in values)
    path = folder / file
    with odograph.open("memory:") as store, odograph.open("memory:") as fresh:
        for cut in [*sorted(c % (len(whole) + 1) for c in cuts), len(whole)]:
            path.write_bytes(whole[:cut])
            report = store.import_sessions(path, format=name)
            assert all("while reading it" not in f["error"] for f in report.failed), report.failed
        fresh.import_sessions(path, format=name)
        assert store.import_sessions(path, format=name).imported == 0
        return content(store), content(fresh)


@pytest.mark.parametrize("name", FILES)
def test_a_file_imported_line_by_line_is_as_one_import(tmp_path: Path, name: str) -> None:
    """Every line is imported as it comes: in the end nothing is there twice, nothing is left over, and nothing is missing."""
    data = b"".join(json.dumps(v).encode() + b"\n" for v in FILES[name][1])
    cuts = [n + 1 for n, byte in enumerate(data) if byte == 10]
    ours, whole = grown(tmp_path, name, cuts)
    assert ours == whole


JUNK = st.sampled_from([None, 5, "x", [], {}, [None], {"a": [1]}, float("nan"), True, -1, "\x00", 2**70])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(FILES)), st.randoms(use_true_random=False), JUNK)
def test_odd_fields_never_crash(tmp_path_factory: pytest.TempPathFactory, name: str, rng: random.Random, junk: Any) -> None:
    """Any field may be missing or of any type: the session is imported as far as it goes, or refused with a sentence."""

    def spoil(value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            out = {k: spoil(v, depth + 1) for k, v in value.items()}
            if out and rng.random() < 0.2:
                out[rng.choice(sorted(out))] = junk
            if depth and out and rng.random() < 0.1:
                del out[rng.choice(sorted(out))]
            return out
        return [spoil(v, depth + 1) for v in value] if isinstance(value, list) else junk if rng.random() < 0.02 else value

    path = tmp_path_factory.mktemp("odd") / FILES[name][0]
    path.write_text("".join(json.dumps(spoil(v, 0)) + "\n" for v in FILES[name][1]))
    with odograph.open("memory:") as store:
        report = store.import_sessions(path, format=name)
        assert all("while reading it" not in f["error"] for f in report.failed), report.failed
        for trajectory in store.trajectories():
            json.dumps(trajectory.to_dict())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(FILES)), st.lists(st.integers(0, 100_000), max_size=4))
def test_any_cut_and_any_sequence_of_cuts(tmp_path_factory: pytest.TempPathFactory, name: str, cuts: list[int]) -> None:
    """Wherever a growing file was cut when it was imported, in the middle of a line too, the end is as one import of the whole."""
    ours, whole = grown(tmp_path_factory.mktemp("grown"), name, cuts)
    assert ours == whole
