"""mini-swe-agent `.traj.json` files: `messages[].extra`, `info`, `trajectory_format`; older ones are a bare list of messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..codec import content_hash, loads
from ..errors import InvalidInput
from ..types import End, Start
from .session import Session, parse_time
from .shape import content_text, dicts, integer, items, number, obj, text, without
from .transcript import Transcript

NAME = "mini-swe-agent"
_MARK = re.compile(rb'"trajectory_format"\s*:\s*"mini-swe-agent|"mini_version"\s*:')
_LIMITS = ("LimitsExceeded", "StepLimit", "CostLimit")


def recognise(path: Path, head: bytes) -> bool:
    """`trajectory_format: mini-swe-agent`, or its other marks; a bare list only in a `.traj.json` file."""
    start = head.lstrip()
    if start.startswith(b"["):
        return path.name.endswith(".traj.json") and b'"role"' in head
    if not start.startswith(b"{"):
        return False
    return _MARK.search(head) is not None or (path.name.endswith(".traj.json") and b'"messages"' in head)


def read(path: Path) -> Iterator[Session]:
    """The session of a file. Raises InvalidInput where it is none."""
    value = loads(path.read_bytes())
    whole = value if isinstance(value, dict) else {"messages": value}
    messages = dicts(whole.get("messages"))
    if not messages:
        raise InvalidInput("a mini-swe-agent file without messages")
    info = obj(whole.get("info"))
    config = obj(info.get("config"))
    model = text(obj(config.get("model")).get("model_name"))
    task = next((content_text(m.get("content")) for m in messages if m.get("role") == "user"), None)
    session = Session(NAME, whole.get("instance_id"), content_hash(messages[:2]), started=_when(messages[0]))
    if len(messages) < len(items(whole.get("messages"))):
        session.warn("messages that are no object", len(whole["messages"]) - len(messages))
    about = without(whole, "messages", "info")
    source = {"format": NAME, "path": path.name, "session": whole.get("instance_id"), "config": config or None, **about}
    start = Start(
        task=task,
        agent="mini-swe-agent",
        agent_version=text(info.get("mini_version")),
        model=model,
        metadata={"source": {k: v for k, v in source.items() if v is not None}},
        source_time=_when(messages[0]),
    )
    session.add(start)
    transcript = Transcript(session, model=model)
    leaves: dict[str, Any] = {}
    for message in messages:
        extra = obj(message.get("extra"))
        sent = without(message, "extra")
        role = message.get("role")
        if role == "assistant":
            _reply(transcript, message, sent, extra)
        elif role == "exit":
            leaves = {"content": message.get("content"), **extra}
        else:
            transcript.saw(sent)
            code = integer(extra.get("returncode"))
            outcome = {"result": extra.get("raw_output", message.get("content")), "ok": None if code is None else code == 0}
            more = without(extra, "raw_output", "timestamp")
            if role == "tool":
                transcript.result(text(message.get("tool_call_id")), **outcome, extra=more or None)
            elif extra:
                transcript.result(f"step-{transcript.step}", **outcome, extra=more or None)
    if info or leaves:
        stats = obj(info.get("model_stats"))
        outcome_name = text(info.get("exit_status")) or text(leaves.get("exit_status"))
        metrics = {
            "llm_calls": integer(stats.get("api_calls")),
            "cost": number(stats.get("instance_cost")),
            **without(info, "config", "submission", "model_stats"),
        }
        failure = info.get("exception_str") or leaves.get("exception_str") or None
        session.add(
            End(
                status=_status(outcome_name),
                answer=info.get("submission") or leaves.get("submission") or None,
                error=failure,
                metrics={k: v for k, v in metrics.items() if v is not None},
            )
        )
    yield session


def _when(message: dict[str, Any]) -> int | None:
    return parse_time(obj(message.get("extra")).get("timestamp"))


def _status(outcome: str | None) -> Any:
    if outcome == "Submitted":
        return "completed"
    if outcome in _LIMITS:
        return "truncated"
    return "timeout" if outcome and "timeout" in outcome.lower() else "failed"


def _reply(transcript: Transcript, message: dict[str, Any], sent: dict[str, Any], extra: dict[str, Any]) -> None:
    body = extra.get("response")
    usage = obj(obj(body).get("usage")) or obj(message.get("usage"))
    call = transcript.replied(
        sent,
        response=body if isinstance(body, dict) else None,
        when=_when(message),
        usage=usage or None,
        prompt_tokens=integer(usage.get("prompt_tokens")),
        completion_tokens=integer(usage.get("completion_tokens")),
        cost=number(extra.get("cost")),
        model=text(obj(body).get("model")) or transcript.model,
    )
    if not dicts(message.get("tool_calls")):
        for index, action in enumerate(dicts(extra.get("actions"))):
            id = f"step-{transcript.step}" if index == 0 else None
            transcript.acted("bash", without(action, "tool_call_id"), id=id, call=call, when=_when(message))
