"""Laws of importing that a small change could break unseen: what stands under what."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

import odograph
from odograph import importers
from odograph.types import LLMCall
from tests.cost import costs

from .scaffold import write


def test_a_sub_agents_records_stand_under_its_steps(store: odograph.Store, tmp_path: Path) -> None:
    """In an imported session the calls and tool calls of a sub-agent have the sub-agent's own step as their parent, not the run."""

    def steps(name: str) -> list[dict[str, object]]:
        call = {"tool_call_id": f"{name}-c", "function_name": "look", "arguments": {}}
        return [
            {"step_id": 1, "source": "user", "message": f"go, {name}"},
            {"step_id": 2, "source": "agent", "message": f"I am {name}", "tool_calls": [call]},
        ]

    agent = {"name": "boss", "version": "1", "model_name": "m"}
    sub = {"schema_version": "ATIF-v1.4", "session_id": "s2", "agent": {**agent, "name": "helper"}, "steps": steps("helper")}
    session = {"schema_version": "ATIF-v1.4", "session_id": "s1", "agent": agent, "steps": steps("boss")}
    path = tmp_path / "session.json"
    path.write_text(json.dumps({**session, "subagent_trajectories": [sub]}))
    report = store.import_sessions(path)
    assert (report.imported, report.failed) == (1, [])
    t = next(store.trajectories())
    under = {s.record.id: (s.agent, s.index) for s in t.steps if s.record is not None}
    assert len(t.llm_calls) == len(t.actions) == 2
    for record in (*(c.record for c in t.llm_calls), *t.actions):
        assert under[record.parent or ""] == (record.agent or t.agent, record.step)
    assert len({record.agent for record in t.actions}) == 2


def test_an_import_takes_a_small_multiple_of_its_file(tmp_path: Path) -> None:
    """The memory of an import is a few times the size of the file, also for many short messages. Importing the file again takes
    little more: the store's lines are looked at one by one."""
    lines: list[dict[str, object]] = []
    for n in range(1500):
        about = {"sessionId": "s", "timestamp": "2026-03-01T10:00:00.000Z", "isSidechain": False}
        result = [{"type": "tool_result", "tool_use_id": f"t{n - 1}", "content": f"result {n} " * 20}]
        asked = [{"type": "tool_use", "id": f"t{n}", "name": "Bash", "input": {"command": f"look {n}"}}]
        for kind, content in (("user", result if n else "look"), ("assistant", asked)):
            message: dict[str, object] = {"role": kind, "content": content, "id": f"m{n}", "model": "m"}
            ids = {"uuid": f"u{len(lines)}", "parentUuid": f"u{len(lines) - 1}" if lines else None}
            lines.append({**ids, **about, "type": kind, "message": message})
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    short = tmp_path / "short.jsonl"
    short.write_text("".join(json.dumps({**line, "sessionId": "short"}) + "\n" for line in lines[:3]))
    with odograph.open(tmp_path / "store") as store:
        store.import_sessions(short)  # modules and caches are loaded once
        short.unlink()
        tracemalloc.start()
        assert store.import_sessions(path).imported == 1
        peak = tracemalloc.get_traced_memory()[1]
        store._reader.look()  # the catalog knows the session
        tracemalloc.reset_peak()
        assert store.import_sessions(path).skipped == 1
        again = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert again < 1.3 * peak
    assert peak < 17 * path.stat().st_size


def test_traces_with_token_ids_take_memory_for_what_is_new(tmp_path: Path) -> None:
    """Twice the turns take twice the memory, although the prompt of each call has all token ids before it: on import, on import
    again, and where our own export is read."""

    def trace(turns: int) -> Path:
        nodes: list[dict[str, object]] = []
        for n in range(2 * turns + 1):
            sampled = n % 2 == 1
            message = {"role": "assistant" if sampled else "user", "content": f"{n}"}
            ids = [(200 * n + k) * 7919 % 100_000 for k in range(200)]
            tokens = {"token_ids": ids, "mask": [sampled] * 200, "logprobs": [-0.5] * 200 if sampled else []}
            nodes.append({"parent": n - 1 if n else None, "message": message, "sampled": sampled, **tokens})
        about = {"id": f"t{turns}", "task": {"data": {"prompt": "go"}}, "agent": {"name": "a"}, "rewards": {}, "calls": []}
        return write(tmp_path / f"{turns}.jsonl", json.dumps({**about, "nodes": nodes}) + "\n")

    def peaks(turns: int) -> list[int]:
        found: list[int] = []
        with odograph.open(tmp_path / f"store{turns}") as store, odograph.open(tmp_path / f"other{turns}") as other:
            for at, path, new in ((store, trace(turns), 1), (store, trace(turns), 0), (other, tmp_path / f"x{turns}", 1)):
                if at is other:
                    store.export(path, to="jsonl")
                tracemalloc.start()
                report = at.import_sessions(path)
                found.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
                assert (report.imported, report.failed) == (new, [])
        return found

    peaks(10)  # modules and caches are loaded once
    for few, many in zip(peaks(50), peaks(100), strict=True):
        assert many < 2.3 * few


def test_a_folder_of_forks_costs_what_its_files_cost(tmp_path: Path) -> None:
    """Sessions that go on from one session look at each other; a session is read once for all others that look."""

    def forks(count: int) -> float:
        folder = tmp_path / str(count)
        folder.mkdir()
        for k in range(count):
            about = {"sessionId": f"s{k}", "isSidechain": False}
            lines: list[dict[str, object]] = []
            for n in range(160):
                uuid = f"u{n}" if n < 158 else f"u{n}-{k}"
                message = {"role": "user" if n % 2 == 0 else "assistant", "id": uuid, "content": f"wave {n} " * 20}
                ids = {"uuid": uuid, "parentUuid": lines[-1]["uuid"] if lines else None}
                when = {"timestamp": f"2026-03-01T10:{n // 60:02d}:{n % 60:02d}.{k:03d}Z" if n >= 158 else f"2026-03-01T10:{n // 60:02d}:{n % 60:02d}.000Z"}  # fmt: skip
                lines.append({**ids, **about, **when, "type": message["role"], "message": message})
            (folder / f"s{k}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

        def read() -> int:
            found = [one for path in sorted(folder.iterdir()) for one in claude.read(path)]
            return sum(one.records[0].fork is not None for one in found)

        forked, cost = costs(read, rounds=2)
        assert forked == count - 1
        return cost

    claude = importers.find("claude-code")
    forks(2)
    few, many = forks(3), forks(24)
    assert many < 24 * few  # eight times the files; each read for each other would be 64 times the cost


def test_requests_of_an_inspect_log_share_their_history(tmp_path: Path) -> None:
    """A log whose requests refer to a pool of messages is no larger in memory than its messages: no call has a history of its own,
    and each has the messages that it refers to, also where it goes back."""
    said = [{"role": "assistant" if n % 2 else "user", "content": f"{n}", "id": f"m{n}"} for n in range(8)]
    refs = [[[0, 1]], [[0, 3]], [[0, 5]], [[0, 1], [4, 7]]]
    answers = (said[1], said[3], said[5], said[7])
    events = [{"event": "model", "input_refs": r, "output": {"choices": [{"message": m}]}} for r, m in zip(refs, answers, strict=True)]  # fmt: skip
    sample = {"id": 1, "epoch": 1, "messages": said, "events": events, "events_data": {"messages": said}}
    log = {"version": 2, "status": "success", "eval": {"run_id": "r", "task": "t", "task_id": "i"}, "samples": [sample]}
    (session,) = importers.find("inspect").read(write(tmp_path / "log.json", log))
    requests = [r.request["messages"] for r in session.records if isinstance(r, LLMCall)]
    assert [[m["content"] for m in r] for r in requests] == [
        ["0"],
        ["0", "1", "2"],
        ["0", "1", "2", "3", "4"],
        ["0", "4", "5", "6"],
    ]
    assert requests[0].base is requests[1].base is requests[2].base
    assert requests[3][0] is requests[0][0]


def _asked(n: int) -> dict[str, object]:
    return {"id": f"c{n}", "type": "function", "function": {"name": "x", "arguments": "{}"}}


def _continue(turns: int) -> str:
    told = [
        {"message": m}
        for n in range(turns)
        for m in (
            {"role": "user", "content": f"q{n}"},
            {"role": "assistant", "content": "", "toolCalls": [_asked(n)]},
            {"role": "tool", "content": "r", "toolCallId": f"c{n}"},
        )
    ]
    return json.dumps({"sessionId": "s", "title": "t", "workspaceDirectory": "/w", "history": told})


def _unanswered_codex(turns: int) -> str:
    lines: list[dict[str, object]] = [{"type": "session_meta", "payload": {"id": "s"}}]
    for n in range(turns):
        said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": f"q{n}"}]}
        call = {"type": "function_call", "call_id": f"c{n}", "name": "x", "arguments": "{}"}
        counts = {"total_token_usage": {"total_tokens": n + 1}, "last_token_usage": {}}
        lines += [{"type": "response_item", "payload": item} for item in (said, call)]
        lines.append({"type": "event_msg", "payload": {"type": "token_count", "info": counts}})
    return "\n".join(map(json.dumps, lines))


def _waiting_claude(turns: int) -> str:
    begun = {"sessionId": "s", "type": "user"}
    about = ({"uuid": f"u{n}", "parentUuid": f"u{n - 1}" if n else None} for n in range(4 * turns))
    return "\n".join(json.dumps({**begun, **a, "message": {"role": "user", "content": a["uuid"]}}) for a in about)


@pytest.mark.parametrize(
    ("name", "file", "of_turns"),
    [
        ("continue", "s.json", _continue),
        ("codex", "s.jsonl", _unanswered_codex),
        ("claude-code", "s.jsonl", _waiting_claude),
    ],
    ids=["results of Continue", "calls of Codex that nothing answered", "prompts of Claude Code that nothing answered"],
)
def test_what_looks_back_does_not_look_back_at_all(tmp_path: Path, name: str, file: str, of_turns: Callable[[int], str]) -> None:
    """Results, calls and prompts are looked up among what came last: four times the turns cost about four times."""

    def cost(turns: int) -> float:
        path = write(tmp_path / str(turns) / file, of_turns(turns))
        return costs(lambda: list(importers.find(name).read(path)), rounds=2)[1]

    few, many = cost(1000), cost(4000)
    assert many < 9 * few
