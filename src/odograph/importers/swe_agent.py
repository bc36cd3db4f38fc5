"""SWE-agent `.traj` files: `trajectory[]{action, observation, response, thought, state}`, `history`, `info`.

Newer files hold the exact messages of each query (`messages` or `query`); for older ones they are rebuilt from `history`,
demonstrations included, as the model saw them. A file with a history alone is read from that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..codec import content_hash, loads
from ..errors import InvalidInput
from ..types import End, Start
from .session import Session
from .shape import content_text, dicts, integer, items, number, obj, text, without
from .transcript import Transcript

NAME = "swe-agent"
_SENT = ("role", "content", "tool_calls", "tool_call_id", "tool_call_ids", "name")


def recognise(path: Path, head: bytes) -> bool:
    """A JSON object with `trajectory` and `history`, or a `.traj` file with a history."""
    start = head.lstrip()
    if not start.startswith(b"{"):
        return False
    if b'"trajectory"' in head and b'"observation"' in head and b'"response"' in head and b'"action"' in head:
        return path.suffix == ".traj" or b'"thought"' in head
    return path.suffix == ".traj" and b'"history"' in head


def read(path: Path) -> Iterator[Session]:
    """The session of a file. Raises InvalidInput where it is none."""
    value = loads(path.read_bytes())
    if not isinstance(value, dict) or not (items(value.get("trajectory")) or items(value.get("history"))):
        raise InvalidInput("a SWE-agent file without a trajectory or history")
    history = dicts(value.get("history"))
    steps = dicts(value.get("trajectory"))
    task = next((content_text(m.get("content")) for m in history if m.get("role") == "user" and not m.get("is_demo")), None)
    info = obj(value.get("info"))
    replay = value.get("replay_config")
    if isinstance(replay, str):
        try:
            replay = loads(replay)
        except InvalidInput:
            replay = {}
    model = text(obj(obj(obj(replay).get("agent")).get("model")).get("name"))
    instance = value.get("instance_id") or obj(obj(replay).get("problem_statement")).get("id")
    session = Session(NAME, instance, path.stem if not history else None, content_hash([task, steps[:1], history[:2]]))
    source = {"format": NAME, "path": path.name, "session": instance, **without(value, "trajectory", "history", "info")}
    session.add(Start(task=task, agent="swe-agent", model=model, metadata={"source": source}))
    if len(steps) < len(items(value.get("trajectory"))):
        session.warn("trajectory items that are no object", len(value["trajectory"]) - len(steps))
    transcript = Transcript(session, model=model)
    sent = [{k: m[k] for k in _SENT if k in m} for m in history]
    if steps:
        _from_steps(transcript, steps, history, sent)
    else:
        _from_history(transcript, history, sent)
    stats = obj(info.get("model_stats"))
    stated = {
        "llm_calls": integer(stats.get("api_calls")),
        "prompt_tokens": integer(stats.get("tokens_sent")),
        "completion_tokens": integer(stats.get("tokens_received")),
        "cost": number(stats.get("instance_cost")),
    }
    if info:
        outcome = text(info.get("exit_status"))
        metrics = {**{k: v for k, v in stated.items() if v is not None}, **without(info, "submission")}
        session.add(End(status=_status(outcome), answer=info.get("submission"), metrics=metrics))
    yield session


def _status(outcome: str | None) -> Any:
    if outcome is None:
        return "failed"
    if "submitted" in outcome.lower():
        return "completed"
    if any(w in outcome for w in ("cost", "limit", "context", "format")):
        return "truncated"
    return "timeout" if "time" in outcome else "failed"


def _from_steps(
    transcript: Transcript, steps: list[dict[str, Any]], history: list[dict[str, Any]], sent: list[dict[str, Any]]
) -> None:
    replies = [i for i, m in enumerate(history) if m.get("role") == "assistant" and not m.get("is_demo")]
    matched = len(replies) == len(steps)
    first = replies[0] if replies else len(sent)
    done = 0
    for number_, item in enumerate(steps):
        position = replies[number_] if matched else first
        if matched or number_ == 0:
            for message in sent[done:position]:
                transcript.saw(message, observed=number_ == 0 and message.get("role") == "user")
            done = position + 1
        exact = next((item[k] for k in ("messages", "query") if isinstance(item.get(k), list)), None)
        message = sent[position] if matched else {"role": "assistant", "content": item.get("response")}
        action = item.get("action")
        asked = dicts(message.get("tool_calls"))
        step = transcript.begin()
        call = transcript.replied(
            {k: v for k, v in message.items() if k != "tool_calls"} if not asked else message,
            begin=False,
            request={"messages": [{k: m[k] for k in _SENT if k in m} for m in dicts(exact)]} if exact is not None else None,
            response=message,
            reasoning=text(item.get("thought")) if item.get("thought") != item.get("response") else None,
            extra={k: item[k] for k in ("state", "extra_info") if item.get(k) is not None} or None,
        )
        took = number(item.get("execution_time"))
        outcome: dict[str, Any] = {
            "result": item.get("observation"),
            "duration": round(took * 1e9) if took is not None and took >= 0 else None,
        }
        if asked:
            transcript.result(text(asked[0].get("id")), **outcome, extra={"action": action} if action else None)
        elif isinstance(action, str) and action.strip():
            name = action.split(None, 1)[0]
            transcript.acted(name, action, call=call, **outcome)
        if not matched:
            transcript.saw({"role": "user", "content": item.get("observation")}, observed=False)
        assert step == transcript.step


def _from_history(transcript: Transcript, history: list[dict[str, Any]], sent: list[dict[str, Any]]) -> None:
    for original, message in zip(history, sent, strict=True):
        if original.get("role") == "assistant" and not original.get("is_demo"):
            transcript.replied(message)
            continue
        ids = items(original.get("tool_call_ids")) or [original.get("tool_call_id")]
        for id in ids:
            transcript.result(text(id), result=original.get("content"))
        transcript.saw(message)
