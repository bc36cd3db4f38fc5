"""Trajectories of ART: `messages_and_choices` with a reward, a trajectory or a group of trajectories a line.

An entry with a `message` inside is a choice that the policy sampled, and may be trained; a plain assistant message is not.
Token ids are in a choice's logprobs, as `token_id:N`. Newer files have `exchanges`: requests and responses of the API. In its
Parquet files a row is a trajectory, whose `messages` say which of them are `trainable`, and with JSON in the other columns.

Source: OpenPipe/ART, art.trajectories.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...prefix import Prefix
from ...shape import content_text, dicts, integer, items, obj, parsed, score, text, without
from ...types import End, Note, Reward, Start, Tokens
from ..session import Session, parse_time
from ..transcript import Transcript
from .benchmarks import first_row, rows

NAME = "art"
_TOKEN = re.compile(r"token_id:(\d+)$")
_HELD = (
    "messages_and_choices",
    "additional_histories",
    "exchanges",
    "reward",
    "metrics",
    "metadata",
    "tools",
    "logs",
    "messages",
)


def recognise(path: Path, head: bytes) -> bool:
    """A row, or the first trajectory of a row, with messages and choices, or with exchanges and a reward."""
    row = first_row(head)
    if row:
        return _is_row(row)
    start = head.lstrip()[:2048]
    return start.startswith((b'{"trajectories"', b'{"messages_and_choices"', b'{"exchanges"')) and (
        b'"messages_and_choices"' in start or b'"exchanges"' in start
    )


def _is_trajectory(value: dict[str, Any]) -> bool:
    return isinstance(value.get("messages_and_choices"), list) or (isinstance(value.get("exchanges"), list) and "reward" in value)


def _is_row(row: dict[str, Any]) -> bool:
    return _is_trajectory(row) or _is_flat(row) or any(map(_is_trajectory, dicts(row.get("trajectories"))))


def _is_flat(row: dict[str, Any]) -> bool:
    messages = dicts(row.get("messages"))
    return "group_index" in row and "reward" in row and bool(messages) and all("trainable" in m for m in messages)


def _unflat(path: Path, row: dict[str, Any]) -> dict[str, Any]:
    """A row of ART's Parquet files as the group that it is of, with this trajectory alone."""
    entries: list[Any] = []
    for one in dicts(row["messages"]):
        said = {k: v for k, v in one.items() if v is not None and k not in ("trainable", "tool_calls")} | {
            "content": one.get("content")
        }
        if (calls := parsed(one.get("tool_calls"))) is not None:
            said["tool_calls"] = calls
        entries.append({"message": said} if one.get("trainable") is True else said)
    held = ("messages", "group_index", "group_metadata", "group_metrics", "group_logs")
    whole = {**without(row, *held), **{k: parsed(row.get(k)) for k in ("metrics", "metadata", "tools")}}
    return {
        "trajectories": [{**whole, "messages_and_choices": entries}],
        "metadata": {"scenario": f"{path.stem}-{row['group_index']}", **obj(parsed(row.get("group_metadata")))},
        "metrics": parsed(row.get("group_metrics")),
        "logs": row.get("group_logs"),
    }


def read(path: Path) -> Iterator[Session]:
    """A session per trajectory. Raises InvalidInput where there is none."""
    for row, key, count, warnings in rows(path, _is_row, "trajectory with messages and choices"):
        row = _unflat(path, row) if _is_flat(row) else row
        group = row if "trajectories" in row else {}
        about = obj(group.get("metadata"))
        beside = {f"group_{k}": group[k] for k in ("exceptions", "metrics", "logs") if group.get(k)}
        name = str(about["scenario"]) if "scenario" in about else f"{key[:16]}-{count}" if group else None
        for number, one in enumerate(dicts(group["trajectories"]) if group else [row]):
            session = Session(NAME, key, count, number)
            if number == 0:
                session.warnings.update(warnings)
            if not _is_trajectory(one):
                session.warn("members of a group that are no trajectories")
            _trajectory(path, session, one, name, {**beside, **about})
            yield session


def _trajectory(path: Path, session: Session, one: dict[str, Any], group: str | None, about: dict[str, Any]) -> None:
    history = items(one.get("messages_and_choices"))
    exchanges = dicts(one.get("exchanges"))
    sent = [m for m in dicts(history) if "message" not in m]
    sent += [m for e in exchanges[:1] for m in dicts(obj(e.get("request")).get("messages"))]
    task = next((content_text(m.get("content")) for m in sent if m.get("role") == "user"), None)
    metadata = obj(one.get("metadata"))
    started = parse_time(one.get("start_time"))
    source = {"format": NAME, "path": path.name, **about, **without(one, *_HELD, "start_time", "end_time"), **metadata}
    model = next(
        (text(obj(e.get(k)).get("model")) for e in exchanges for k in ("response", "request") if obj(e.get(k)).get("model")), None
    )
    session.add(
        Start(
            task=task,
            group=group,
            model=text(metadata.get("model")) or model,
            policy_version=integer(one.get("initial_policy_version")),
            metadata={"source": {k: v for k, v in source.items() if v is not None}},
            source_time=started,
        ),
        "start",
    )
    transcript = Transcript(session, tools=items(one.get("tools")))
    _history(transcript, history)
    for more in dicts(one.get("additional_histories")):
        transcript.tools = items(more.get("tools"))
        _history(transcript, items(more.get("messages_and_choices")))
    for exchange in exchanges:
        _exchange(transcript, exchange)
    transcript.close()
    if "reward" in one:
        session.add(Reward(value=score(one["reward"])), "reward")
    for name, value in obj(one.get("metrics")).items():
        session.add(Reward(name=str(name), value=score(value), weight=0, source="function"), "metric", name)
    for log in items(one.get("logs")):
        session.add(Note(name="log", data=log), "log", log)
    session.add(End(source_time=parse_time(one.get("end_time"))), "end")


def _history(transcript: Transcript, entries: list[Any]) -> None:
    """Messages and choices. A plain answer is of nobody who is trained: a prompt holds it."""
    first = next((n for n, entry in enumerate(entries) if isinstance(obj(entry).get("message"), dict)), len(entries))
    transcript.sent(entries[:first])
    for entry in entries[first:]:
        e = obj(entry)
        if not isinstance(e.get("message"), dict):
            transcript.told(entry)
            continue
        fields: dict[str, Any] = {"tokens": [found]} if (found := _tokens(e)) is not None else {}
        ids = items(e.get("prompt_token_ids"))
        transcript.replied(
            e["message"],
            response={"choices": [e]},
            finish_reason=text(e.get("finish_reason")),
            prompt_token_ids=ids or None,
            **fields,
        )


def _exchange(transcript: Transcript, exchange: dict[str, Any]) -> None:
    request, response = obj(exchange.get("request")), exchange.get("response")
    transcript.sent(items(request.get("messages")))
    choice = next(iter(dicts(obj(response).get("choices"))), {})
    usage = obj(obj(response).get("usage"))
    whole = {**request, "messages": Prefix(transcript.history)} if "messages" in request else request
    transcript.replied(
        obj(choice.get("message")),
        response=response,
        request=whole,
        model=text(obj(response).get("model")) or text(request.get("model")),
        usage=usage or None,
        prompt_tokens=integer(usage.get("prompt_tokens")),
        completion_tokens=integer(usage.get("completion_tokens")),
    )


def _tokens(choice: dict[str, Any]) -> Tokens | None:
    """The ids that stand in a choice's logprobs."""
    content = dicts(obj(choice.get("logprobs")).get("content"))
    ids = [int(found[1]) for c in content if isinstance(c.get("token"), str) and (found := _TOKEN.match(c["token"]))]
    if not content or len(ids) != len(content):
        return None
    return Tokens(token_ids=ids, logprobs=[c.get("logprob") for c in content])
