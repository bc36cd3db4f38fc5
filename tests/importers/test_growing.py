"""A file that grows while it is imported again and again: the end is as one import of the whole, for every importer of lines."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import odograph
from odograph import conversations, importers, shown

from . import agents, forks
from .agents import AIDER, LINES, WHOLE
from .junk import JUNK, spoiled
from .test_mini_swe_agent import calls_file
from .test_openhands import v0, v1
from .test_sessions import ATIF, AWORLD, EVAL, SAMPLE
from .test_sessions import GEMINI as SESSION
from .test_swe_agent import old
from .test_tau2_bench import results
from .test_tau_bench import episode
from .test_verifiers_traces import TRACE

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
#: As newer versions write it: what a tool gave is a message, too, and may stand there alone.
GEMINI_NEW = [
    GEMINI[0],
    {"$set": {"messages": [gemini(1, "user", [{"text": "Look under it"}])]}},
    gemini(2, "gemini", "", model="gem", tokens=TOKENS, toolCalls=[READ, {**ASKED, "id": "k2"}]),
    gemini(3, "user", [*READ["result"], {"functionResponse": {"id": "k2", "response": {"error": "no such stone"}}}, {"text": "Hurry"}]),
    gemini(4, "gemini", "Moss", model="gem", tokens=TOKENS),
]  # fmt: skip


def gemini_answer(id: str, output: str) -> dict[str, Any]:
    return {"functionResponse": {"id": id, "response": {"output": output}}}


def _carried(*ids: str) -> dict[str, Any]:
    """The message with the tool calls of all replies, as it stands when these were asked for."""
    names = {"a": "ls", "b": "cat", "c": "ls"}
    calls = [{"id": i, "name": names[i], "args": {}, "status": "success", "result": [gemini_answer(i, f"of {i}")]} for i in ids]
    return gemini(3, "gemini", "", toolCalls=calls)


#: A chat of VS Code since 1.109: an object, and what was changed in it.
_ASKED = [{"id": "c1", "name": "read", "arguments": "{}"}]
_ROUNDS = {"toolCallRounds": [{"id": "r1", "response": "I look", "toolCalls": _ASKED}, {"id": "r2", "response": "Sand", "toolCalls": []}], "toolCallResults": {"c1": {"content": [{"value": "grains"}]}}}  # fmt: skip
CHAT_LOG: list[dict[str, Any]] = [
    {"kind": 0, "v": {"version": 3, "sessionId": "v", "creationDate": 1772359200000, "responderUsername": "GitHub Copilot", "requests": []}},
    {"kind": 2, "k": ["requests"], "v": [{"requestId": "q1", "timestamp": 1772359201000, "message": {"text": "Look"}, "response": [], "modelId": "m"}]},
    {"kind": 2, "k": ["requests", 0, "response"], "v": [{"value": "I "}, {"kind": "toolInvocationSerialized", "toolId": "t", "toolCallId": "x"}]},
    {"kind": 2, "k": ["requests", 0, "response"], "i": 1, "v": [{"value": "look"}]},
    {"kind": 1, "k": ["requests", 0, "completionTokens"], "v": 7},
    {"kind": 1, "k": ["requests", 0, "result"], "v": {"metadata": {**_ROUNDS, "promptTokens": 30}}},
    {"kind": 2, "k": ["requests"], "v": [{"requestId": "q2", "timestamp": 1772359209000, "message": {"text": "Deeper"}, "response": []}]},
    {"kind": 1, "k": ["customTitle"], "v": "Sand"},
    {"kind": 2, "k": ["requests", 1, "response"], "v": [{"value": "Clay"}]},
    {"kind": 1, "k": ["requests", 1, "result"], "v": {"metadata": {}}},
    {"kind": 3, "k": ["customTitle"]},
]  # fmt: skip

#: A session in an editor (`gemini --acp`, version 0.61).
GEMINI_EDITOR = [
    {"sessionId": "g", "projectHash": "h", "startTime": T.format(0)},
    gemini(1, "user", [{"text": "Look"}]),
    gemini(2, "gemini", "I look.", tokens={"input": 10, "output": 2}),
    _carried("a"),
    _carried("a", "b"),
    gemini(4, "user", [gemini_answer("a", "of a"), gemini_answer("b", "of b")]),
    gemini(5, "gemini", "Sand.", tokens={"input": 11, "output": 2}),
    gemini(6, "user", [{"text": "Again"}]),
    gemini(7, "gemini", "", tokens={"input": 12, "output": 2}),
    _carried("a", "b", "c"),
    gemini(8, "user", [gemini_answer("c", "of c")]),
    gemini(9, "gemini", "I clean.", tokens={"input": 13, "output": 2}),
    gemini(10, "user", [{"functionResponse": {"id": "d", "name": "rm", "response": {"error": "canceled by the user"}}}]),
    gemini(11, "gemini", "Well.", tokens={"input": 14, "output": 2}),
]


#: A session that was resumed, as version 0.61 writes it: thoughts and calls as parts, all results of a reply with each of its calls, and
#: a context that says something else.
CONTEXT = "<session_context>\nfiles: {}\n</session_context>"
DUG = [{"id": i, "name": "sh", "args": {}, "status": "success", "result": [gemini_answer(i, o)]} for i, o in (("a", "Output: sand"), ("b", "Output: none\nExit Code: 3"))]  # fmt: skip
THOUGHT = {"thoughts": [{"subject": "Where", "description": "to dig"}], "tokens": {"input": 5, "output": 2}}
_FIRST = [
    {"sessionId": "g", "projectHash": "h", "startTime": T.format(0)},
    {"$set": {"messages": [gemini(0, "user", [{"text": CONTEXT.format("none")}])]}},
    gemini(1, "user", [{"text": "Dig"}]),
    gemini(2, "gemini", "I dig.", **THOUGHT, toolCalls=DUG),
    gemini(3, "gemini", "Dug", tokens={"input": 6, "output": 2}),
]
_PARTS = [{"text": "**Where** to dig", "thought": True}, {"text": "I dig."}, *({"functionCall": {"id": c["id"], "name": "sh", "args": {}}} for c in DUG)]  # fmt: skip
_BOTH = [r for c in DUG for r in c["result"]]
_AGAIN = [
    gemini(0, "user", [{"text": CONTEXT.format("hole")}]),
    _FIRST[2],
    gemini(2, "gemini", _PARTS, **THOUGHT, toolCalls=[{**c, "result": _BOTH} for c in DUG]),
    _FIRST[4],
]
GEMINI_RESUMED = [*_FIRST, {"$set": {"messages": _AGAIN}}, gemini(4, "user", [{"text": "Deeper"}]), gemini(5, "gemini", "Deep")]


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
RATED = [{"prompt": p, "completions": ["a", "b"], "rewards": [1, 0]} for p in ("Sum", "Product", "Sum")]
BATCH = [
    {"custom_id": f"r{n}", "response": {"status_code": 200, "body": {"model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": a}}]}}}
    for n, a in enumerate(("one", "two"))
]  # fmt: skip
ALPACA = {"instruction": "Translate", "input": "Hund", "output": "dog"}
FILES: dict[str, tuple[str, list[Any]]] = {
    "claude-stream": ("h.jsonl", STREAM),
    "codex-exec": ("i.jsonl", EXEC),
    "pi-session": ("j.jsonl", PI),
    "verifiers": ("k.jsonl", [VERIFIED, {**VERIFIED, "id": 4}]),
    "sharegpt": ("l.jsonl", [SHARE, ALPACA]),
    "completions": ("l.jsonl", RATED),
    "batches": ("l.jsonl", BATCH),
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
        steps = [(s.agent, s.index, *(first[a.id] for a in s.actions)) for s in t.steps]
        entries = [(e.kind, e.step, e.agent, e.depth, first.get(e.record or "")) for e in shown.session(t)]
        found[f"order of {t.id}"] = (steps, [first[a.llm_call] for a in t.actions if a.llm_call], entries, conversations.show(t))
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


class Growing(NamedTuple):
    """A file or folder of a format, in each state of its growth."""

    format: str
    states: list[int]  #: the states worth a look each: after each line, message, row or part
    write: Callable[[Path, int], Path]  #: writes the state of a number into a folder, and says where


def by_bytes(format: str, file: str, data: bytes) -> Growing:
    """A file that grows at its end: its state is its size."""
    ends = [n + 1 for n, byte in enumerate(data) if byte == 10]
    return Growing(format, [*ends, len(data)], lambda folder, size: write(folder / file, data[:size]))


def by_value(format: str, file: str, count: int, value: Callable[[int], Any], first: int = 1) -> Growing:
    """A file that is one value, and is written anew whenever something comes: its state is how many came. `first`: how many
    there are when the program writes it for the first time."""
    states = list(range(first, count + 1))
    return Growing(format, states, lambda folder, size: write(folder / file, json.dumps(value(max(size, first))).encode()))


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def fresh(path: Path) -> Path:
    path.unlink(missing_ok=True)
    return path


def jsonl(values: list[Any]) -> bytes:
    return b"".join(json.dumps(v).encode() + b"\n" for v in values)


def database(name: str, file: str, fill: Callable[[Path, int], Any], count: int) -> Growing:
    def state(folder: Path, size: int) -> Path:
        (folder / file).unlink(missing_ok=True)
        fill(folder / file, size)
        return folder / file

    return Growing(name, list(range(1, count + 1)), state)


def roo(size: int) -> list[dict[str, Any]]:
    """The history of a task of Roo: the fifth message stands for what came before it."""
    told = [
        ("user", "Mend the net"), ("assistant", "Mended"), ("user", "and the oar"), ("assistant", "The oar, too"),
        ("user", "a net was mended"), ("user", "thanks"), ("assistant", "Gladly"),
    ]  # fmt: skip
    messages = [{"role": role, "ts": agents.MS + n, "content": [{"type": "text", "text": t}]} for n, (role, t) in enumerate(told)]
    messages[4] |= {"isSummary": True, "condenseId": "k"}
    return [{**m, "condenseParent": "k"} if size > 4 and n < 4 else m for n, m in enumerate(messages[:size])]


def rows_of(make: Callable[[Path], Path], table: str) -> Callable[[Path, int], Any]:
    """Of a database as `make` writes it, the first rows of a table."""

    def fill(path: Path, size: int) -> None:
        with contextlib.closing(sqlite3.connect(make(path))) as database:
            database.execute(f"delete from {table} where rowid not in (select rowid from {table} order by rowid limit {size})")
            database.commit()

    return fill


def of_hands(folder: Path, size: int) -> Path:
    """A conversation of OpenHands V1: a file per event, beside the state."""
    events = v1(3, finish=True)
    for n, event in enumerate(events[:size]):
        write(folder / "c1" / "events" / f"event-{n:05}-{event['id']}.json", json.dumps(event).encode())
    state = {"id": "c1", "agent": {"llm": {"model": "m"}}, "execution_status": "finished" if size >= len(events) else "running"}
    write(folder / "c1" / "base_state.json", json.dumps(state).encode())
    return folder / "c1"


def trial(folder: Path, size: int) -> Path:
    """A trial of Harbor, whose agent writes its trajectory; the verdict comes last."""
    result = {"id": "x", "task_name": "t", "trial_name": "t.1", "started_at": T.format(0)}
    atif = {**ATIF, "steps": ATIF["steps"][: max(2, size)]}
    write(folder / "t1" / "agent" / "trajectory.json", json.dumps(atif).encode())
    if size >= 4:
        result |= {"finished_at": T.format(9), "verifier_result": {"rewards": {"reward": 1.0}}}
    write(folder / "t1" / "result.json", json.dumps(result).encode())
    return folder / "t1"


def with_agents(folder: Path, size: int) -> Path:
    """Sessions of Claude Code with a sub-agent's file and a fork, of which so many lines are written, turn by turn."""
    about = {"isSidechain": True, "agentId": "ab1"}
    agent = [{**cc(20, "user", "find twine", None), **about, "uuid": "g1"}, {**cc(21, "assistant", use("x1", "Grep"), "g1"), **about, "uuid": "g2"},
             {**cc(22, "user", result("x1", "hall"), "g2"), **about, "uuid": "g3"}, {**cc(23, "assistant", "in the hall", "g3"), **about, "uuid": "g4"}]  # fmt: skip
    main = [
        cc(1, "user", "Tie a knot", None),
        cc(2, "assistant", use("t9", "Agent", prompt="find twine", subagent_type="Explore")),
    ]
    done = [
        cc(3, "user", result("t9", "in the hall"), toolUseResult={"agentId": "ab1", "totalDurationMs": 1500}),
        cc(4, "assistant", "Tied"),
    ]
    copied = [{**v, "sessionId": "z"} for v in [*main, *done]]
    fork = [*copied, {**cc(5, "user", "Loosen it"), "sessionId": "z"}, {**cc(6, "assistant", "Loose"), "sessionId": "z"}]
    write(folder / "p" / "s.jsonl", jsonl([*main[:size], *done[: max(0, size - 6)]]))
    if size > 2:
        write(folder / "p" / "s" / "subagents" / "agent-ab1.meta.json", b'{"agentType": "Explore"}')
        write(folder / "p" / "s" / "subagents" / "agent-ab1.jsonl", jsonl(agent[: size - 2]))
    if size > 8:
        write(folder / "p" / "z.jsonl", jsonl(fork[: 4 + size - 8]))
    return folder / "p"


def in_background(folder: Path, size: int) -> Path:
    """A session of Claude Code whose agents go on while it goes on: one started before the other, and one that no call started,
    of which a line is written in turn."""
    started = [
        cc(1, "user", "Tie two knots", None),
        cc(2, "assistant", [*use("t1", "Agent", prompt="find twine"), *use("t2", "Agent", prompt="find a hook")]),
        cc(3, "user", result("t1", "launched"), toolUseResult={"status": "async_launched", "agentId": "b1"}),
        cc(3, "user", result("t2", "launched"), uuid="u3b", toolUseResult={"status": "async_launched", "agentId": "a2"}),
        cc(8, "assistant", "I wait"), cc(12, "user", "And now"), cc(16, "assistant", "Tied"), cc(20, "user", "Thanks"), cc(24, "assistant", "Welcome"),
    ]  # fmt: skip
    files = {"s.jsonl": started}
    for n, (name, asked) in enumerate((("b1", "find twine"), ("a2", "find a hook"), ("acompact", "sum it up"))):
        about = {"isSidechain": True, "agentId": name}
        turns = [(5 + 2 * n, "user", asked), (6 + 2 * n, "assistant", f"{name} looks"), (14 + n, "user", "go on"), (18 + n, "assistant", f"{name} found it")]  # fmt: skip
        files[f"s/subagents/agent-{name}.jsonl"] = [{**cc(at, kind, said, "-"), **about, "uuid": f"{name}-{at}"} for at, kind, said in turns]  # fmt: skip
    order = sorted((line["timestamp"], file, n) for file, lines_ in files.items() for n, line in enumerate(lines_))
    for file, lines_ in files.items():
        if there := [line for n, line in enumerate(lines_) if (line["timestamp"], file, n) in order[: max(1, size)]]:
            write(folder / "p" / file, jsonl(there))
    return folder / "p"


def deeper(folder: Path, size: int) -> Path:
    """A session of Claude Code whose sub-agent starts a sub-agent: the lines of the three files are written in turn."""
    main = [cc(1, "user", "Tie both", None), cc(2, "assistant", use("t1", "Task", prompt="the left")), cc(9, "user", result("t1", "tied"), toolUseResult={"agentId": "z1"}), cc(10, "assistant", "Both")]  # fmt: skip
    left = [cc(3, "user", "the left", None), cc(4, "assistant", use("t2", "Task", prompt="the end")), cc(7, "user", result("t2", "so"), toolUseResult={"agentId": "a2"}), cc(8, "assistant", "tied")]  # fmt: skip
    end = [cc(5, "user", "the end", None), cc(6, "assistant", "so")]
    files = {"s.jsonl": main, "s/subagents/agent-z1.jsonl": left, "s/subagents/agent-a2.jsonl": end}
    order = sorted((line["timestamp"], file) for file, lines_ in files.items() for line in lines_)[: max(1, size)]
    for file, lines_ in files.items():
        about = {} if file == "s.jsonl" else {"isSidechain": True, "agentId": file[-8:-6]}
        if there := [{**line, **about} for line in lines_ if (line["timestamp"], file) in order]:
            write(folder / "p" / file, jsonl(there))
    return folder / "p"


def of_cursor(folder: Path, size: int) -> Path:
    """Cursor's transcript of a session with sub-agents, each in a file of its own; of which so many lines are written, in turn."""
    task = [{"type": "tool_use", "name": "Task", "input": {"prompt": p, "subagent_type": "scout"}} for p in ("Find a knot", "Find twine")]  # fmt: skip
    asked = [{"role": "user", "message": {"content": [agents.said(f"<user_query>\n{p}\n</user_query>")]}} for p in ("Find a knot", "Find twine")]  # fmt: skip
    told = [{"role": "assistant", "message": {"content": [agents.said(text)]}} for text in ("a bowline", "by the door", "wait")]
    main = [agents.CURSOR[0], {"role": "assistant", "message": {"content": task}}, agents.CURSOR[2], agents.CURSOR[0], told[2]]
    first, second = [asked[0], told[0], asked[0], told[2]], [asked[1], told[1]]
    turns = [(0, main), (0, main), (2, second), (1, first), (1, first), (0, main), (2, second), (1, first), (0, main), (1, first), (0, main)]  # fmt: skip
    names = ("cu1.jsonl", "subagents/su1.jsonl", "subagents/su0.jsonl")
    for n, lines_ in (written := turns[: max(1, size)]):
        write(folder / "cu1" / names[n], jsonl(lines_[: sum(k == n for k, _ in written)]))
    return folder / "cu1"


def streaming(path: Path, size: int) -> None:
    """OpenCode's database while an answer comes: rows are written, then changed in place."""
    size = max(1, size)
    agents.opencode(path, 1 if size < 3 else 99 if size > 7 else 3)
    with contextlib.closing(sqlite3.connect(path)) as database:
        row = json.loads(database.execute("select data from message where id = 'm2'").fetchone()[0]) if size > 2 else {}
        tool = json.loads(database.execute("select data from part where id = 'm2-1'").fetchone()[0]) if size > 2 else {}
        if size == 2:  # the message without a part
            database.execute("insert into message values ('m2', 's1', ?, ?)", (agents.MS + 1, json.dumps({"role": "assistant", "time": {"created": agents.MS + 1500}})))  # fmt: skip
        if 2 < size < 7:  # its figures come at the end
            row = {"role": "assistant", "modelID": "m", "time": {"created": row["time"]["created"]}}
            text = {"type": "reasoning", "text": "which knot"[: 3 * size]}
            state = {3: None, 4: {"status": "pending", "input": {}}, 5: {"status": "running", "input": {"command": "ls"}}, 6: tool["state"]}[size]  # fmt: skip
            database.execute("update message set data = ? where id = 'm2'", (json.dumps(row),))
            database.execute("update part set data = ? where id = 'm2-0'", (json.dumps(text),))
            if state is None:
                database.execute("delete from part where id = 'm2-1'")
            else:
                database.execute("update part set data = ? where id = 'm2-1'", (json.dumps({**tool, "state": state}),))
        database.commit()


def threads(folder: Path, size: int) -> Path:
    """A thread of Codex, and one that goes on from it, of which so many lines are written."""
    base = {"thread_id": "019d0000-0000-7000-8000-0000000000aa", "end_ordinal_exclusive": 12}
    meta = {"id": "019d0000-0001-7000-8000-0000000000bb", "timestamp": T.format(20), "history_base": base}
    fork = [
        codex("session_meta", 20, **meta),
        said(21, "And the pebbles"),
        said(22, "Pebbled", "assistant"),
        counts(22, 8),
        said(23, "Ta"),
    ]
    write(folder / "p" / "rollout-019d0000-0000-7000-8000-0000000000aa.jsonl", jsonl(CODEX[: size + 2]))
    if size > len(CODEX) - 2:
        write(folder / "p" / "rollout-019d0000-0001-7000-8000-0000000000bb.jsonl", jsonl(fork[: size - len(CODEX) + 3]))
    return folder / "p"


def eval_log(folder: Path, size: int) -> Path:
    """An Inspect log, to which samples are added as they end."""
    path = folder / "a.eval"
    with zipfile.ZipFile(path, "w") as log:
        log.writestr("header.json" if size >= 3 else "_journal/start.json", json.dumps(EVAL))
        for n in range(min(size, 3)):
            log.writestr(f"samples/{n}_epoch_1.json", json.dumps({**SAMPLE, "id": n, "uuid": f"u{n}"}))
    return path


def span(n: int) -> dict[str, Any]:
    about = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": n}
    about["gen_ai.output.messages"] = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": f"wave {n}"}]}])
    attributes = [{"key": k, "value": {"stringValue": v} if isinstance(v, str) else {"intValue": v}} for k, v in about.items()]
    at = 1_772_359_200_000_000_000 + n * 10**9
    one = {"traceId": "ab" * 16, "spanId": f"{n:016x}", "name": "chat m", "startTimeUnixNano": at, "endTimeUnixNano": at + 10**8}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [{**one, "attributes": attributes}]}]}]}


def mlflow(folder: Path, size: int) -> Path:
    """A file of MLflow's traces that is written again: feedback came in between, was changed, and another trace ended."""

    def trace(n: int, *given: Any) -> dict[str, Any]:
        said = {
            "mlflow.spanInputs": json.dumps({"messages": [{"role": "user", "content": f"Wave {n}?"}]}),
            "mlflow.spanOutputs": '"Aye"',
        }
        about = {
            "start_time_unix_nano": 10**18 + n,
            "end_time_unix_nano": 10**18 + 5 * n,
            "status": {"code": "STATUS_CODE_OK"},
            "events": [],
        }
        ids = {
            "trace_id": base64.b64encode(bytes([n] * 16)).decode(),
            "span_id": base64.b64encode(bytes([n] * 8)).decode(),
            "parent_span_id": None,
        }
        span = {**ids, "name": "ask", **about, "attributes": {"mlflow.spanType": '"CHAT_MODEL"', **said}}
        feedback = [{"assessment_id": name, "assessment_name": name, "source": {"source_type": "HUMAN"}, "feedback": {"value": value}} for name, value in given]  # fmt: skip
        return {
            "info": {"trace_id": f"tr-{n}", "trace_metadata": {}, "tags": {}, "assessments": feedback},
            "data": {"spans": [span]},
        }

    states = [
        [trace(1)], [trace(1, ("right", True))], [trace(1, ("right", True), ("kind", 0.5)), trace(2)],
        [trace(1, ("right", False), ("kind", 0.5)), trace(2, ("right", True))],
    ]  # fmt: skip
    return write(folder / "traces.jsonl", jsonl(states[max(size, 1) - 1]))


def art_table(folder: Path, size: int) -> Path:
    """A table of ART that is written again with each trajectory that ended."""

    def row(n: int) -> dict[str, Any]:
        said = [
            {"role": "user", "content": "q", "trainable": False},
            {"role": "assistant", "content": f"a{n}", "trainable": True},
        ]
        return {
            "group_index": n // 2,
            "group_metadata": '{"x": 1}',
            "reward": n / 2,
            "metrics": '{"turns": 1}',
            "metadata": None,
            "messages": said,
        }

    pq.write_table(pa.Table.from_pylist([row(n) for n in range(max(size, 1))]), folder / "trajectories.parquet")
    return folder / "trajectories.parquet"


def recorded() -> bytes:
    """Our own export of two runs."""
    with odograph.open("memory:") as store:
        for task in ("Row", "Sail"):
            with store.record(task=task) as run, run.step() as step:
                step.llm_call(model="m", messages=[{"role": "user", "content": task}], response="Aye")
                step.action("oar", {"n": 1}, "splash")
        with tempfile.TemporaryDirectory() as folder:
            store.export(f"{folder}/o", to="jsonl")
            return Path(folder, "o", "data", "train.jsonl").read_bytes()


def mini(size: int) -> dict[str, Any]:
    whole = calls_file(3)
    return whole if size >= len(whole["messages"]) else {**whole, "info": {}, "messages": whole["messages"][:size]}


def hand_run(size: int) -> dict[str, Any]:
    whole = old(4)
    if size >= 4:
        return whole
    history = whole["history"][: 3 + 2 * size - 1]
    return {**whole, "trajectory": whole["trajectory"][:size], "history": history, "info": {}}


#: A compaction is written at once: there is no state with a part of it.
GOOSE_STATES = [*range(1, 10), *range(11, 14), *range(16, 22)]

INSTRUCTED = codex("session_meta", 0, **CODEX[0]["payload"], base_instructions={"text": "Be brief. " * 100})
AWORLD_LINES = jsonl(AWORLD)
TRIALS = [{"id": f"t{n}", "trial_name": f"t.{n}", "task_id": "t", "instruction": "Knot", "is_resolved": True, "trial_started_at": T.format(n)} for n in range(3)]  # fmt: skip
TURNS = {"actions": ["ls"], "observations": ["x"], "rewards": [1], "valid_action": [True]}
WINDS = [
    {"environment": "e", "dataset": "d", "task_id": n, "query": f"q{n}", "turn_history": TURNS, "summary": {"max_reward": 1}}
    for n in range(3)
]
BENCH = [{"index": n, "output": {"index": n, "status": "completed", "history": [{"role": "user", "content": "q"}, {"role": "agent", "content": f"a{n}"}]}} for n in range(3)]  # fmt: skip
LETTA = [{"result": {"sample": {"id": n, "input": "q"}, "trajectory": [[{"id": f"m{n}", "message_type": "user_message", "content": "q"}, {"id": f"a{n}", "message_type": "assistant_message", "content": "a"}]], "grade": {"score": 1.0}}} for n in range(3)]  # fmt: skip
EPISODE = {"id": "e", "env": {}, "task": {"data": {"prompt": "q"}}, "ok": True, "traces": [{"id": "t", "agent": {}, "ok": True, "nodes": [{"message": {"role": "user", "content": "q"}}, {"parent": 0, "sampled": True, "message": {"role": "assistant", "content": "a"}}]}]}  # fmt: skip
SMOL = [{"model_id": "m", "question": "q", "answer": f"{n}", "intermediate_steps": [{"role": "user", "content": "q"}, {"role": "assistant", "content": f"{n}"}]} for n in range(3)]  # fmt: skip
TRIPLETS = [{"rollout_id": f"r{n}", "group": "g", "triplets": [{"prompt": {"token_ids": [1, 2]}, "response": {"token_ids": [3 + n], "logprobs": [{"logprob": -0.5}]}, "reward": n / 2, "metadata": {"agent": "a"}}]} for n in range(3)]  # fmt: skip
HUB = [
    {"type": "session", "harness": "mine", "id": "h", "name": "Dig", "reward": 0.5, "status": "completed"},
    *({"type": "message", "message": m} for m in (
        {"role": "system", "content": "be brief"}, {"role": "user", "content": "Dig"},
        {"role": "assistant", "content": "", "reasoningContent": "hm", "model": "m", "timestamp": 1772359200000, "toolCalls": [{"id": "c", "function": {"name": "dig", "arguments": "{}"}}]},
        {"role": "tool", "toolCallId": "c", "content": "a bone"}, {"role": "assistant", "content": "A bone"}, {"role": "user", "content": "Ta"},
    )),
]  # fmt: skip
USE, GAVE = {"type": "tool_use", "id": "t", "name": "dig", "input": {}}, {"type": "tool_result", "tool_use_id": "t", "content": "a bone"}  # fmt: skip
BLOCKS = [{"system": f"s{n}", "messages": [{"role": "user", "content": "Dig"}, {"role": "assistant", "content": [USE]}, {"role": "user", "content": [GAVE]}, {"role": "assistant", "content": f"{n}"}]} for n in range(2)]  # fmt: skip
BODY = {"messages": [{"role": "user", "content": "Dig"}]}
WEAVE = [{"id": f"c{n}", "op_name": "weave:///t/p/op/ask:1", "trace_id": "t", "parent_id": None if n == 2 else "c2", "started_at": T.format(n), "ended_at": T.format(n + 1), "inputs": {} if n == 2 else BODY, "output": f"{n}", "attributes": {}, "summary": {}} for n in range(3)]  # fmt: skip
HELICONE = [{"request_id": f"r{n}", "request_created_at": T.format(n), "response_status": 200, "request_body": {"model": "m", **BODY}, "response_body": {"role": "assistant", "content": f"{n}"}, "request_properties": {"Helicone-Session-Id": f"s{n % 2}"}} for n in range(3)]  # fmt: skip
CURSOR_TURNS = [
    {"role": "user", "message": {"content": "<timestamp>Tuesday, Jun 2, 2026, 12:05 AM (UTC)</timestamp>\n<user_query>Dig</user_query>"}},
    {"role": "assistant", "message": {"content": [{"type": "tool_use", "name": "dig", "input": "here"}]}},
    {"type": "turn_ended", "status": "error", "error": "no"}, {"role": "user", "message": {"content": "again"}},
    {"role": "assistant", "message": {"content": "Dug"}}, {"type": "turn_ended", "status": "aborted"},
]  # fmt: skip
AMP_INFO: list[dict[str, Any]] = [
    {"role": role, "messageId": n, "content": [{"type": kind, kind: f"{kind} {n}"}]}
    for n, (role, kind) in enumerate((("user", "text"), ("assistant", "text"), ("info", "summary"), ("info", "text"), ("user", "text"), ("assistant", "text")))
]  # fmt: skip
LETTA_TALK = [
    {"message_type": kind, "id": f"m{n}", "seq_id": n, "content": f"c{n}", **more}
    for n, (kind, more) in enumerate((
        ("system_message", {}), ("user_message", {}), ("assistant_message", {"tool_call": {"name": "dig", "arguments": "{}", "tool_call_id": "t"}}),
        ("tool_return_message", {"tool_call_id": "t", "tool_return": "a bone"}), ("summary_message", {"summary": "so far"}), ("assistant_message", {}),
    ))
]  # fmt: skip
ROO_PARTS = [
    {"role": "user", "ts": agents.MS, "content": "Dig"},
    {"role": "assistant", "ts": agents.MS + 1, "content": [{"type": "tool-call", "toolCallId": "t", "toolName": "dig", "input": {}}]},
    {"role": "tool", "ts": agents.MS + 2, "content": [{"type": "tool-result", "toolCallId": "t", "toolName": "dig", "output": {"type": "json", "value": [1]}}]},
    {"type": "reasoning", "ts": agents.MS + 3, "summary": [{"type": "summary_text", "text": "hm"}]}, {"role": "assistant", "ts": agents.MS + 4, "content": "Dug"},
]  # fmt: skip
LANGFUSE = {"id": "t", "projectId": "p", "timestamp": T.format(0), "scores": [], "observations": [
    {"id": f"o{n}", "traceId": "t", "type": kind, "name": "ask", "startTime": T.format(n), "endTime": T.format(n + 1), "model": "m", "input": [{"role": "user", "content": f"look {n}"}], "output": {"role": "assistant", "content": f"seen {n}"}}
    for n, kind in enumerate(("GENERATION", "TOOL", "GENERATION"))
]}  # fmt: skip
#: Every importer, and where a format has several shapes that grow, each of those.
GROWS: dict[str, Growing] = {
    **{name: by_bytes(name, file, jsonl(values)) for name, (file, values) in FILES.items()},
    **{f"{name} whole": by_value(name, file, 5, value) for name, (file, value) in WHOLE.items()},
    "aider": by_bytes("aider", ".aider.chat.history.md", AIDER.encode()),
    "agentbench": by_bytes("agentbench", "runs.jsonl", jsonl(BENCH)),
    "letta-evals": by_bytes("letta-evals", "results.jsonl", jsonl(LETTA)),
    "verifiers-traces": by_bytes("verifiers-traces", "traces.jsonl", jsonl([EPISODE, TRACE])),
    "smolagents steps": by_value("smolagents", "steps.json", 4, agents.smol_run, first=2),
    "smolagents": by_bytes("smolagents", "a.jsonl", jsonl(SMOL)),
    "aworld": by_bytes("aworld", "a.jsonl", AWORLD_LINES),
    "spans": by_bytes("spans", "spans.jsonl", jsonl([span(n) for n in range(3)])),
    "mlflow": Growing("spans", [1, 2, 3, 4], mlflow),
    "art table": Growing("art", [1, 2, 3, 4], art_table),
    "odograph": by_bytes("odograph", "train.jsonl", recorded()),
    "gemini-cli whole": by_value("gemini-cli", "a.json", 4, lambda n: {**SESSION, "messages": SESSION["messages"][:n]}),
    "inspect json": by_value("inspect", "a.json", 3, lambda n: {**EVAL, "samples": [{**SAMPLE, "id": k, "uuid": f"u{k}"} for k in range(n)]}),
    "inspect": Growing("inspect", [1, 2, 3], eval_log),
    "atif": by_value("atif", "trajectory.json", 3, lambda n: {**ATIF, "steps": ATIF["steps"][:n]}, first=2),
    "harbor": Growing("harbor", [1, 2, 3, 4], trial),
    "openhands V0": by_value("openhands", "a.json", len(v0()), lambda n: v0()[:n]),
    "openhands V1": Growing("openhands", list(range(1, len(v1(3, finish=True)) + 1)), of_hands),
    "mini-swe-agent": by_value("mini-swe-agent", "a.traj.json", 9, mini, first=3),
    "swe-agent": by_value("swe-agent", "a.traj", 4, hand_run),
    "tau-bench": by_value("tau-bench", "a.json", 4, lambda n: [episode(k, 0) for k in range(n)]),
    "tau2-bench": by_value("tau2-bench", "a.json", 2, lambda n: {**results(), "simulations": results()["simulations"][:n]}),
    "intercode": by_value("intercode", "a.json", 3, lambda n: {str(k): task for k, task in enumerate(WINDS[:n])}),
    "terminal-bench": by_value("terminal-bench", "results.json", 3, lambda n: {"id": "r", "results": TRIALS[:n]}),
    "agent-lightning triplets": by_bytes("agent-lightning", "a.jsonl", jsonl(TRIPLETS)),
    "agent-lightning lines": by_bytes("agent-lightning", "a.jsonl", jsonl([row["triplets"][0] for row in TRIPLETS])),
    "chat with blocks": by_bytes("anthropic-messages", "a.jsonl", jsonl(BLOCKS)),
    "chat, then blocks": by_bytes("openai-chat", "a.jsonl", jsonl([*CHAT, *BLOCKS])),
    "weave": by_bytes("spans", "calls.jsonl", jsonl(WEAVE)),
    "helicone": by_bytes("spans", "requests.jsonl", jsonl(HELICONE)),
    "cursor turns": by_bytes("cursor", "a.jsonl", jsonl(CURSOR_TURNS)),
    "amp compacted": by_value("amp", "T-1.json", 6, lambda n: {"v": 8, "id": "T-1", "created": agents.MS, "messages": AMP_INFO[:n]}),
    "letta messages": by_value("letta-evals", "a.json", 6, lambda n: LETTA_TALK[:n][::-1], first=3),
    "roo of the AI SDK": by_value("cline", "1772359200000/api_conversation_history.json", 5, lambda n: {"version": 2, "messages": ROO_PARTS[:n]}),
    "hf-traces": by_bytes("hf-traces", "a.jsonl", jsonl(HUB)),
    "langfuse": by_value("spans", "trace.json", 3, lambda n: {**LANGFUSE, "observations": LANGFUSE["observations"][:n]}),
    "pi forked": Growing("pi-session", list(range(1, 8)), forks.pi),
    "qwen-code forked": Growing("qwen-code", list(range(1, 7)), forks.qwen),
    "droid forked": Growing("droid", list(range(1, 5)), forks.droid),
    "kimi-code forked": Growing("kimi-code", [12, 20, 29, 30], forks.kimi_code),
    "opencode 2": Growing("opencode", list(range(1, 20)), lambda folder, n: agents.opencode_2(folder / "opencode.db", n)),
    "opencode forked": database("opencode", "opencode.db", forks.opencode, 6),
    "goose forked": database("goose", "sessions.db", forks.goose, 5),
    "openclaw database": database("pi-session", "openclaw-agent.sqlite", forks.open_claw, 7),
    "opencode": database("opencode", "opencode.db", agents.opencode, 7),
    "cursor database": database("cursor", "state.vscdb", rows_of(agents.cursor, "cursorDiskKV"), 7),
    "cursor chat": Growing("cursor", list(range(1, 8)), lambda folder, n: agents.cursor_chat(folder / "store.db", agents.STORE[:n])),
    "opencode streaming": database("opencode", "opencode.db", streaming, 8),
    "cursor agents": Growing("cursor", list(range(1, 12)), of_cursor),
    "claude-code background": Growing("claude-code", list(range(1, 22)), in_background),
    "claude-code deeper": Growing("claude-code", list(range(1, 11)), deeper),
    "kimi folder": Growing("kimi", list(range(1, 17)), agents.kimi),
    "cline condensed": by_value("cline", "1772359200000/api_conversation_history.json", 7, roo),
    "cline in XML": by_value("cline", "1772359200000/api_conversation_history.json", 10, agents.in_xml),
    "kimi-code": Growing("kimi-code", list(range(5, len(agents.kimi_code_main()) + 1)), agents.kimi_code),
    "claude-code folder": Growing("claude-code", list(range(1, 11)), with_agents),
    "codex with instructions": by_bytes("codex", "b.jsonl", jsonl([INSTRUCTED, *CODEX[1:]])),
    "codex folder": Growing("codex", list(range(1, len(CODEX) + 3)), threads),
    "gemini-cli new": by_bytes("gemini-cli", "c.jsonl", jsonl(GEMINI_NEW)),
    "gemini-cli resumed": by_bytes("gemini-cli", "c.jsonl", jsonl(GEMINI_RESUMED)),
    "gemini-cli editor": by_bytes("gemini-cli", "c.jsonl", jsonl(GEMINI_EDITOR)),
    "copilot-chat log": by_bytes("copilot-chat", "c.jsonl", jsonl(CHAT_LOG)),
    "copilot agents": by_bytes("copilot", "events.jsonl", jsonl(agents.COPILOT_TREE)),
    "copilot new": by_bytes("copilot", "events.jsonl", jsonl(agents.COPILOT_NEW)),
    "cline-cli folder": Growing("cline-cli", list(range(1, 8)), agents.cline_cli),
    "goose database": database("goose", "sessions.db", rows_of(agents.goose, "messages"), 4),
    "goose compacted": Growing("goose", GOOSE_STATES, lambda folder, n: agents.goose(fresh(folder / "sessions.db"), agents.goose_talk(max((s for s in GOOSE_STATES if s <= n), default=1)))),
}  # fmt: skip


def grown(folder: Path, name: str, states: list[int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a store holds that looked at each of these states, and what one holds that looked at the last alone."""
    growing = GROWS[name]
    with odograph.open("memory:") as store, odograph.open("memory:") as fresh:
        for state in [*sorted(states), growing.states[-1]]:
            path = growing.write(folder, state)
            report = store.import_sessions(path, format=growing.format)
            assert all("while reading it" not in f["error"] for f in report.failed), report.failed
        fresh.import_sessions(path, format=growing.format)
        assert store.import_sessions(path, format=growing.format).imported == 0
        return content(store), content(fresh)


def test_every_importer_is_here() -> None:
    """No format is left out."""
    assert {growing.format for growing in GROWS.values()} == set(importers.NAMES)


@pytest.mark.parametrize("name", GROWS)
def test_a_growing_session_ends_as_one_import(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """Whatever was there when a growing session was imported, however often, the end is as one import of the whole: nothing is
    there twice, nothing is left over, nothing is missing. A file may be cut in the middle of a line too."""
    ours, whole = grown(tmp_path_factory.mktemp("grown"), name, GROWS[name].states)
    assert whole
    assert ours == whole

    @settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.integers(0, GROWS[name].states[-1]), max_size=4))
    def any_states(states: list[int]) -> None:
        ours, whole = grown(tmp_path_factory.mktemp("grown"), name, states)
        assert ours == whole

    any_states()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(FILES)), st.randoms(use_true_random=False), JUNK)
def test_odd_fields_never_crash(tmp_path_factory: pytest.TempPathFactory, name: str, rng: random.Random, junk: Any) -> None:
    """Any field may be missing or of any type: the session is imported as far as it goes, or refused with a sentence."""
    path = tmp_path_factory.mktemp("odd") / FILES[name][0]
    path.write_text("".join(json.dumps(spoiled(v, junk, rng)) + "\n" for v in FILES[name][1]))
    with odograph.open("memory:") as store:
        report = store.import_sessions(path, format=name)
        assert all("while reading it" not in f["error"] for f in report.failed), report.failed
        for trajectory in store.trajectories():
            json.dumps(trajectory.to_dict())
