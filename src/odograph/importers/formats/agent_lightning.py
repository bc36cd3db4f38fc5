"""Archives of agent-lightning: a rollout a line, `{rollout, events, resources}`, its model requests and rewards as events.

A response is a body of the chat API, or the chunks of a stream. vLLM's token ids are in it: `prompt_token_ids`, and
`token_ids` of a choice.

Source: microsoft/agent-lightning, version 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ... import dialects
from ...codec import fold_events
from ...shape import content_text, dicts, items, obj, score, text, without
from ...types import End, LLMCall, Note, Reward, Start, StepStart
from ..session import Session, parse_time
from .benchmarks import first_row, sessions

NAME = "agent-lightning"
_STATUS = {"succeeded": "completed", "failed": "failed", "cancelled": "cancelled", "timeout": "timeout"}


def recognise(path: Path, head: bytes) -> bool:
    """A line with a rollout and its events."""
    row = first_row(head)
    if row:
        return isinstance(row.get("rollout"), dict) and isinstance(row.get("events"), list)
    start = head.lstrip()[:200]
    return start.startswith((b'{"rollout": {', b'{"rollout":{')) and b'"rollout_id"' in start


def read(path: Path) -> Iterator[Session]:
    """A session per rollout. Raises InvalidInput where there is none."""
    yield from sessions(path, lambda r: isinstance(r.get("rollout"), dict), partial(_session, path), "line with a rollout")


def _session(path: Path, row: dict[str, Any], key: str, count: int) -> Session:
    rollout = obj(row["rollout"])
    id = text(rollout.get("rollout_id"))
    life = rollout["status"] if isinstance(rollout.get("status"), dict) else rollout  # since 1.0 the status is an object
    started = parse_time(life.get("created_at"))
    session = Session(NAME, id or key, count if id is None else None, started=started)
    events = dicts(row.get("events"))
    source = {
        "format": NAME,
        "path": path.name,
        **without(rollout, "input", "status", "created_at", "updated_at"),
        "resources": row.get("resources"),
    }
    about = {"source": {k: v for k, v in source.items() if v is not None}}
    first = next((obj(obj(e.get("data")).get("request")) for e in events if e.get("event_type") == "model_request"), {})
    batch = obj(rollout.get("metadata"))
    group = (
        f"{batch['batch_idx']}-{batch['sample_idx_in_batch']}" if {"batch_idx", "sample_idx_in_batch"} <= batch.keys() else None
    )
    task = rollout.get("input")
    start = Start(task=task, model=text(first.get("model")), group=group, metadata=about, source_time=started)
    session.add(start, "start")
    step = -1
    answer: Any = None
    for number, event in enumerate(events):
        kind, data, when = event.get("event_type"), obj(event.get("data")), parse_time(event.get("timestamp"))
        if kind == "model_request":
            step += 1
            _call(session, step, event, data, when)
        elif kind == "reward":
            value = score(data.get("value"))
            session.add(Reward(value=value, rationale=text(data.get("reason")), extra=data, source_time=when), "reward", number)
        else:
            answer = data.get("answer", answer) if kind == "agent_output" else answer
            session.add(Note(name=str(kind), data=data, source_time=when), "event", number)
    stopped = parse_time(life.get("updated_at"))
    status: Any = _STATUS.get(str(life.get("state", life.get("status"))))
    if status is not None:
        error = life.get("error_message")
        session.add(End(status=status, answer=answer, error=error, source_time=stopped), "end")
    return session


def _call(session: Session, step: int, event: dict[str, Any], data: dict[str, Any], when: int | None) -> None:
    request, response, events = obj(data.get("request")), data.get("response"), None
    if isinstance(response, list):  # the chunks of a stream
        events, response = fold_events(response), dialects.get("openai.chat").assemble(response)
    prompts = dicts(request.get("messages"))
    last = prompts[-1] if prompts and prompts[-1].get("role") == "user" else {}
    session.add(StepStart(step=step, observation=content_text(last.get("content")), source_time=when), "step", step)
    usage = obj(obj(response).get("usage"))
    ids = items(obj(response).get("prompt_token_ids"))
    answers = [items(c.get("token_ids")) for c in dicts(obj(response).get("choices"))]
    dialect = dialects.of_response(response, None).NAME if isinstance(response, dict) else "openai.chat"
    call = LLMCall(
        step=step,
        origin="transcript",
        dialect=dialect,
        model=text(obj(response).get("model")) or text(request.get("model")),
        request=request,
        response=response,
        usage=usage or None,
        prompt_tokens=usage.get("prompt_tokens", len(ids) or None),
        completion_tokens=usage.get("completion_tokens", sum(map(len, answers)) or None),
        source_time=when,
        events=events,
        extra=without(event, "data", "timestamp", "rollout_id", "event_type") or None,
    )
    session.add(call, "call", step)
