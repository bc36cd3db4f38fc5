"""Results of Letta evals: JSON lines `{type: "result", result}` with the sample, the agent's messages, grades and usage.

A step is a `step_id`, which is one reply of the model: its reasoning, its tool calls and what it said. Usage is the run's.

Source: letta-ai/letta-evals, `results.jsonl`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...shape import dicts, integer, items, obj, score, text, without
from ...types import End, Reward, Start
from ..session import Session, parse_time
from ..transcript import Transcript
from .benchmarks import first_row, sessions

NAME = "letta-evals"
SURE = 30  # words that a file of another format may quote
_REPLY = ("reasoning_message", "hidden_reasoning_message", "tool_call_message", "approval_request_message", "assistant_message")


def recognise(path: Path, head: bytes) -> bool:
    """A row of type `result` with a sample and a trajectory."""
    row = first_row(head)
    if not row:
        return head.lstrip().startswith(b'{"type": "result", "result": {"sample"') and b'"trajectory"' in head
    return row.get("type") in ("result", "summary", "sample") and {"sample", "trajectory"} <= obj(row.get("result")).keys()


def read(path: Path) -> Iterator[Session]:
    """A session per result. Raises InvalidInput where there is none."""
    yield from sessions(path, lambda r: "trajectory" in obj(r.get("result")), partial(_session, path), "result with a trajectory")


def _session(path: Path, row: dict[str, Any], key: str, count: int) -> Session:
    result = obj(row.get("result"))
    sample = obj(result.get("sample"))
    messages = [m for turn in items(result.get("trajectory")) for m in (dicts(turn) if isinstance(turn, list) else dicts([turn]))]
    started = next((t for m in messages if (t := parse_time(m.get("date"))) is not None), None)
    session = Session(NAME, key, count, started=started)
    model = text(result.get("model_name"))
    used = dicts(result.get("agent_usage"))
    totals = {n: sum(integer(u.get(n)) or 0 for u in used) for n in ("prompt_tokens", "completion_tokens") if used}
    source = {"format": NAME, "path": path.name, "session": result.get("agent_id"), "sample": sample, "totals": totals}
    start = Start(
        task=sample.get("input"),
        agent="letta",
        model=model,
        group=str(sample.get("id")),
        metadata={"source": source},
        source_time=started,
    )
    session.add(start, "start")
    transcript = Transcript(session, model=model)
    reply: list[dict[str, Any]] = []
    for message in messages:
        kind = message.get("message_type")
        if kind in _REPLY:
            if reply and reply[0].get("step_id") != message.get("step_id"):
                _reply(transcript, reply)
                reply = []
            reply.append(message)
            continue
        if reply:
            _reply(transcript, reply)
            reply = []
        if kind == "tool_return_message":
            id, said = text(message.get("tool_call_id")), message.get("tool_return")
            transcript.saw({"role": "tool", "tool_call_id": id, "content": said})
            status = message.get("status")
            ok = status == "success" if status in ("success", "error") else None
            if not transcript.result(id, result=said, ok=ok):
                session.warn("tool results that no call in the file asked for")
        else:
            told = {"role": "system" if kind == "system_message" else "user", "content": message.get("content")}
            transcript.saw(told, id=text(message.get("id")), when=parse_time(message.get("date")))
    if reply:
        _reply(transcript, reply)
    transcript.close()
    grades = obj(result.get("grades")) or {"grade": result.get("grade")}
    for name, grade in grades.items():
        about = obj(grade)
        if "score" in about:
            session.add(
                Reward(
                    name=str(name),
                    value=score(about["score"]),
                    source="function",
                    rationale=text(about.get("rationale")),
                    extra=obj(about.get("metadata")) or None,
                ),
                *("grade", name),
            )
    session.add(
        End(answer=result.get("submission"), error=result.get("error"), status="failed" if result.get("error") else "completed"),
        "end",
    )
    return session


def _reply(transcript: Transcript, parts: list[dict[str, Any]]) -> None:
    said = [p.get("content") for p in parts if p.get("message_type") == "assistant_message"]
    thoughts = [p["reasoning"] for p in parts if isinstance(p.get("reasoning"), str)]
    answer: dict[str, Any] = {"role": "assistant", "content": said[0] if len(said) == 1 else said or None}
    asked = [c for p in parts for c in (dicts(p.get("tool_calls")) or dicts([p.get("tool_call")]))]
    if asked:
        answer["tool_calls"] = [
            {"id": c.get("tool_call_id"), "type": "function", "function": without(c, "tool_call_id")} for c in asked
        ]
    first = parts[0]
    ids = [p["id"] for p in parts if text(p.get("id"))]
    transcript.replied(
        answer,
        when=parse_time(first.get("date")),
        reasoning="\n\n".join(thoughts) or None,
        extra={"step_id": first.get("step_id"), "ids": ids},
    )
