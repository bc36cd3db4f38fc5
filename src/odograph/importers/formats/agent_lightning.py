"""Archives of agent-lightning: a rollout a line, `{rollout, events, resources}`, its model requests and rewards as events.

A response is a body of the chat API, or the chunks of a stream. vLLM's token ids are in it: `prompt_token_ids`, and
`token_ids` of a choice. The tools that an answer asks for are actions, whose results the next request holds. Of several rewards
the last counts, as in its trainer. Triplets of version 0 (`prompt`, `response` and `reward`, with token ids and no texts) are a
call each; a line that is one triplet does not say which rollout it is of, and is a trajectory.

Source: microsoft/agent-lightning, version 1.0: `schemas.py`, `server/proxy.py` and `verl/agl_rollout_manager.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ... import dialects
from ...codec import fold_events
from ...prefix import Prefix
from ...shape import dicts, integer, items, nanoseconds, number, obj, score, text, without
from ...types import End, LLMCall, Note, Reward, Start, Tokens
from ..session import Session, parse_time
from ..transcript import Transcript
from .benchmarks import first_row, sessions

NAME = "agent-lightning"
_STATUS = {"succeeded": "completed", "failed": "failed", "cancelled": "cancelled", "timeout": "timeout"}


def recognise(path: Path, head: bytes) -> bool:
    """A line with a rollout and its events, or with triplets."""
    row = first_row(head)
    if row:
        return (isinstance(row.get("rollout"), dict) and isinstance(row.get("events"), list)) or _are_triplets(row)
    start = head.lstrip()[:200]
    told = b'"triplets"' in start or start.replace(b" ", b"").startswith(b'{"prompt":{"token_ids":')
    if told and b'"token_ids"' in head:  # a line that is longer than the head
        return True
    return start.startswith((b'{"rollout": {', b'{"rollout":{')) and b'"rollout_id"' in start


def read(path: Path) -> Iterator[Session]:
    """A session per rollout. Raises InvalidInput where there is none."""
    yield from sessions(path, _is_row, partial(_session, path), "line with a rollout")


def _is_row(row: dict[str, Any]) -> bool:
    return isinstance(row.get("rollout"), dict) or _are_triplets(row)


def _are_triplets(row: dict[str, Any]) -> bool:
    found = dicts(row.get("triplets"))
    return (bool(found) and all(map(_is_triplet, found))) or _is_triplet(row)


def _is_triplet(one: dict[str, Any]) -> bool:
    return "token_ids" in obj(one.get("prompt")) and "token_ids" in obj(one.get("response"))


def _of_triplets(path: Path, row: dict[str, Any], key: str, count: int) -> Session:
    """A rollout of version 0: what was said stands nowhere, so calls have token ids alone."""
    id = text(row.get("rollout_id"))
    session = Session(NAME, id or key, count if id is None else None)
    triplets = [row] if _is_triplet(row) else session.objects(row, "triplets")
    held = ("prompt", "response", "reward", "metadata") if _is_triplet(row) else ("triplets",)
    source = {"format": NAME, "path": path.name, **without(row, *held, "group")}
    session.add(Start(group=text(row.get("group")), metadata={"source": source}), "start")
    transcript = Transcript(session)
    rewards: list[tuple[Any, int]] = []
    for number_, one in enumerate(triplets):
        step = transcript.begin()
        prompt, response, about = obj(one["prompt"]), obj(one["response"]), obj(one.get("metadata"))
        given = items(response.get("logprobs"))
        logprobs = [p.get("logprob") if isinstance(p, dict) else p for p in given]
        call = LLMCall(
            step=step,
            origin="transcript",
            prompt_token_ids=items(prompt["token_ids"]),
            prompt_tokens=len(items(prompt["token_ids"])),
            completion_tokens=len(items(response["token_ids"])),
            tokens=[Tokens(token_ids=items(response["token_ids"]), logprobs=logprobs or None)],
            extra={**without(prompt, "token_ids"), **without(response, "token_ids", "logprobs"), "metadata": about},
        )
        session.add(call)
        if one.get("reward") is not None:
            rewards.append((one["reward"], number_))
    for value, number_ in rewards:
        session.add(Reward(value=score(value), extra={"triplet": number_}), "reward", number_)
    session.add(End(), "end")
    return session


def _session(path: Path, row: dict[str, Any], key: str, count: int) -> Session:
    if "rollout" not in row:
        return _of_triplets(path, row, key, count)
    rollout = obj(row["rollout"])
    id = text(rollout.get("rollout_id"))
    life = rollout["status"] if isinstance(rollout.get("status"), dict) else rollout  # since 1.0 the status is an object
    started = parse_time(life.get("created_at"))
    session = Session(NAME, id or key, count if id is None else None, started=started)
    events = session.objects(row, "events")
    source = {
        "format": NAME,
        "path": path.name,
        **without(rollout, "input", "status", "created_at", "updated_at"),
        "resources": row.get("resources"),
    }
    about = {"source": {k: v for k, v in source.items() if v is not None}}
    first = next((obj(e.get("data")) for e in events if e.get("event_type") == "model_request"), {})
    batch = obj(rollout.get("metadata"))
    place = [batch.get(name) for name in ("batch_idx", "sample_idx_in_batch")]
    group = text(batch.get("group")) or (None if None in place else "-".join(map(str, place)))
    start = Start(
        task=rollout.get("input"),
        model=text(obj(first.get("request")).get("model")) or text(first.get("model")),
        group=group,
        policy_version=_version(first),
        metadata=about,
        source_time=started,
    )
    session.add(start, "start")
    transcript = Transcript(session)
    answer: Any = None
    for number_, event in enumerate(events):
        kind, data, when = event.get("event_type"), obj(event.get("data")), parse_time(event.get("timestamp"))
        if kind == "model_request":
            _call(transcript, event, data, when)
        elif kind == "reward":
            why = text(data.get("reason")) or text(data.get("message"))
            session.add(Reward(value=score(data.get("value")), rationale=why, extra=data, source_time=when), "reward", number_)
        else:
            if not isinstance(kind, str):
                session.warn("events without a type")
            answer = data.get("answer", answer) if kind == "agent_output" else answer
            session.add(Note(name=str(kind), data=data, source_time=when), "event", number_)
    stopped = parse_time(life.get("updated_at"))
    status: Any = _STATUS.get(str(life.get("state", life.get("status"))))
    if status is not None:
        error = life.get("error_message")
        session.add(End(status=status, answer=answer, error=error, source_time=stopped), "end")
    return session


def _version(data: dict[str, Any]) -> int | None:
    """The training step of the weights that answered a request."""
    return integer(data.get("model_version", obj(data.get("server")).get("version")))


def _call(transcript: Transcript, event: dict[str, Any], data: dict[str, Any], when: int | None) -> None:
    request, response, events = obj(data.get("request")), data.get("response"), None
    if isinstance(response, list):  # the chunks of a stream
        events, response = fold_events(response), dialects.get("openai.chat").assemble(response)
    dialect = dialects.of_response(response, None) if isinstance(response, dict) else dialects.get(None)
    transcript.dialect = dialect.NAME
    transcript.sent(dialect.messages(request), when)
    choices = dialect.choices(response) if isinstance(response, dict) else []
    usage = obj(obj(response).get("usage")) or obj(data.get("usage"))
    ids = items(obj(response).get("prompt_token_ids"))
    answers = [items(c.get("token_ids")) for c in dicts(obj(response).get("choices"))]
    failed = data.get("status") == "error" or (integer(data.get("http_status")) or 0) >= 400
    took = number(data.get("latency_ms"))
    held = ("model", "request", "response", "latency_ms", "http_status", "usage", "finish_reason")
    transcript.replied(
        choices[0].message if choices else {},
        response=response,
        request={**request, "messages": Prefix(transcript.history)} if "messages" in request else request,
        model=text(obj(response).get("model")) or text(request.get("model")) or text(data.get("model")),
        usage=usage or None,
        prompt_tokens=usage.get("prompt_tokens", len(ids) or None),
        completion_tokens=usage.get("completion_tokens", sum(map(len, answers)) or None),
        finish_reason=text(data.get("finish_reason")),
        duration=None if took is None else nanoseconds(took / 1000),
        status_code=integer(data.get("http_status")),
        error=(obj(response).get("error") or {"status": data.get("http_status")}) if failed else None,
        when=when,
        events=events,
        extra={**without(event, "data", "timestamp", "rollout_id", "event_type"), **without(data, *held)} or None,
    )
    if not choices:
        transcript.history.pop()  # nothing was answered
