"""Results of Letta evals: JSON lines with the agent's messages, grades, the composed reward and usage.

A line is a result, whose sample is in `suite.json` beside it (or in the folder above); in older versions it is
`{type: "result", result}` with the sample inside. A step is a `step_id`, which is one reply of the model: its reasoning, its tool
calls and what it said. Usage is the run's. Where a reward was composed, the grades it was composed of monitor (`weight` 0).

A list of an agent's messages, as Letta's API answers it (the newest first), is a session too.

Source: letta-ai/letta-evals 0.26, `letta_evals.models.results` and `letta_evals.streaming`; Letta's API, `LettaMessageUnion`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...shape import content_text, dicts, integer, items, number, obj, score, text, without
from ...types import End, LLMCall, Note, Reward, Start, Tokens
from .. import peek
from ..session import Session, parse_time
from ..transcript import Transcript
from .benchmarks import first_row, sessions

NAME = "letta-evals"
SURE = 30  # words that a file of another format may quote
_REPLY = ("reasoning_message", "hidden_reasoning_message", "tool_call_message", "approval_request_message", "assistant_message")


def recognise(path: Path, head: bytes) -> bool:
    """A row of type `result` with a sample and a trajectory, or a list of messages with types."""
    row = first_row(head)
    if _is_message(row):
        return head.lstrip().startswith(b"[")
    if not row:
        _, known = peek.keys(head)
        older = head.lstrip().startswith(b'{"type": "result", "result": {"sample"') and b'"trajectory"' in head
        return older or known >= {"sample_id", "agent_id", "model_handle", "trajectory"}
    if row.get("type") in ("result", "summary", "sample") and {"sample", "trajectory"} <= obj(row.get("result")).keys():
        return True
    return {"sample_id", "trajectory", "grades"} <= row.keys()


def read(path: Path) -> Iterator[Session]:
    """A session per result, or the one of a list of messages. Raises InvalidInput where there is none."""
    with path.open("rb") as file:
        listed = _is_message(first_row(file.read(65536)))
    if listed:
        yield _talk(path, dicts(loads(path.read_bytes())))
        return
    made = partial(_session, path, _samples(path))
    yield from sessions(path, lambda r: "trajectory" in obj(r.get("result", r)), made, "result with a trajectory")


def _is_message(row: dict[str, Any]) -> bool:
    return str(row.get("message_type")).endswith("_message") and isinstance(row.get("id"), str)


def _talk(path: Path, messages: list[dict[str, Any]]) -> Session:
    """A session of messages alone: in the order of their numbers or times, where they have them."""
    messages.sort(key=lambda m: (integer(m.get("seq_id")) or 0, parse_time(m.get("date")) or 0))
    started = next((t for m in messages if (t := parse_time(m.get("date"))) is not None), None)
    asked = next((m.get("content") for m in messages if m.get("message_type") == "user_message"), None)
    session = Session(NAME, text(messages[0].get("id")) or content_hash(messages[0]), started=started)
    source = {"format": NAME, "path": path.name, "interactive": True}
    task = content_text(asked) or asked
    session.add(Start(task=task, agent="letta", metadata={"source": source}, source_time=started), "start")
    transcript = Transcript(session, by_id=True)
    _tell(transcript, messages)
    transcript.close()
    return session


def _samples(path: Path) -> dict[str, Any]:
    """The samples of the run by id; nothing where its `suite.json` is not there."""
    for folder in path.absolute().parents[:2]:
        with contextlib.suppress(OSError, InvalidInput):
            return {str(s.get("id")): s for s in dicts(obj(loads((folder / "suite.json").read_bytes())).get("samples"))}
    return {}


def _session(path: Path, samples: dict[str, Any], row: dict[str, Any], key: str, count: int) -> Session:
    result = obj(row.get("result", row))
    newer = result is row
    sample = obj(samples.get(str(row.get("sample_id")), {"id": row.get("sample_id")})) if newer else obj(result.get("sample"))
    messages = [m for turn in items(result.get("trajectory")) for m in (dicts(turn) if isinstance(turn, list) else dicts([turn]))]
    started = next((t for m in messages if (t := parse_time(m.get("date"))) is not None), None)
    session = Session(NAME, key, count, started=started)
    if result.get("trajectory") and not messages:
        session.warn("a field `trajectory` without a message")
    model = text(result.get("model_handle")) or text(result.get("model_name"))
    usage = obj(result.get("usage"))
    used = dicts(result.get("agent_usage")) or [usage]
    totals = {n: sum(integer(u.get(n)) or 0 for u in used) for n in ("prompt_tokens", "completion_tokens") if used != [{}]}
    source = {"format": NAME, "path": path.name, "session": result.get("agent_id"), "sample": sample, "totals": totals}
    if newer:
        held = ("sample_id", "agent_id", "model_handle", "trajectory", "agent_usage", "grades", "reward", "error", "token_data")
        source |= {k: v for k, v in without(result, *held).items() if v is not None}
    # each suite counts from 0
    asked = sample.get("input", next((m.get("content") for m in messages if m.get("message_type") == "user_message"), None))
    start = Start(
        task=sample.get("input"),
        agent="letta",
        model=model,
        group=f"{sample.get('id')}-{content_hash(asked)[:8]}" if asked is not None else str(sample.get("id")),
        metadata={"source": source},
        source_time=started,
    )
    session.add(start, "start")
    transcript = Transcript(session, model=model)
    _tell(transcript, messages)
    transcript.close()
    _token_ids(session, dicts(result.get("token_data")))
    composed = result.get("reward") if newer else None
    scores: list[tuple[Reward, tuple[Any, ...]]] = []
    if newer:
        value = score(obj(composed).get("score"))
        scores.append((Reward(value=value, source="function", extra=obj(obj(composed).get("metadata")) or None), ("reward",)))
    grades, first = obj(result.get("grades")) or {"grade": result.get("grade")}, obj(result.get("grade"))
    if not newer and len(grades) > 1 and "score" in first:  # of several graders, the result's own grade counts
        scores.append(
            (Reward(value=score(first["score"]), source="function", rationale=text(first.get("rationale"))), ("reward",))
        )
    for name, grade in grades.items():
        about = obj(grade)
        if "score" in about:
            grade = Reward(
                name=str(name),
                value=score(about["score"]),
                source="function",
                rationale=text(about.get("rationale")),
                extra={**obj(about.get("metadata")), **{k: about[k] for k in ("per_turn_grades",) if about.get(k)}} or None,
            )
            scores.append((grade, ("grade", name)))
    session.score(*scores)
    said = obj(result.get("submissions"))
    answer = next(iter(said.values())) if len(said) == 1 else said or result.get("submission")
    cost = number(usage.get("cost"))
    failed = result.get("error")
    metrics = {} if cost is None else {"cost": cost}
    session.add(End(answer=answer, error=failed, status="failed" if failed else "completed", metrics=metrics), "end")
    return session


def _tell(transcript: Transcript, messages: list[dict[str, Any]]) -> None:
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
        if kind == "tool_return_message" or (kind == "approval_response_message" and dicts(message.get("approvals"))):
            for one in dicts(message.get("tool_returns")) or dicts(message.get("approvals")) or [message]:
                _returned(transcript, one)
        elif kind in ("summary_message", "event_message", "approval_response_message"):
            name = "compaction" if kind == "summary_message" else str(kind)
            transcript.session.add(Note(name=name, data=message, source_time=parse_time(message.get("date"))))
            if kind == "summary_message":  # what the model is sent in the place of what came before
                transcript.history = [m for m in transcript.history[:1] if m.get("role") == "system"]
                transcript.saw({"role": "user", "content": message.get("summary")}, id=text(message.get("id")))
        else:
            if kind not in ("system_message", "user_message"):
                transcript.session.warn("messages of no known type")
            told = {"role": "system" if kind == "system_message" else "user", "content": message.get("content")}
            transcript.saw(told, id=text(message.get("id")), when=parse_time(message.get("date")))
    if reply:
        _reply(transcript, reply)


def _returned(transcript: Transcript, one: dict[str, Any]) -> None:
    id, said = text(one.get("tool_call_id")), one.get("tool_return", one.get("reason"))
    transcript.saw({"role": "tool", "tool_call_id": id, "content": said})
    ok = {"success": True, "error": False}.get(str(one.get("status")))
    if one.get("approve") is False:
        ok = False
    extra = {name: one[name] for name in ("stdout", "stderr") if one.get(name)} or None
    if one.get("approve") is not True and not transcript.result(id, result=said, ok=ok, extra=extra):
        transcript.session.warn("tool results that no call in the file asked for")


def _token_ids(session: Session, said: list[dict[str, Any]]) -> None:
    """Puts the ids that the model was sent and gave on its calls, where there are as many of both."""
    made = [one for one in said if isinstance(one.get("output_ids"), list)]
    calls = [record for record in session.records if isinstance(record, LLMCall)]
    if made and len(made) != len(calls):
        session.warn("token ids whose calls are not told", len(made))
        return
    for call, one in zip(calls, made, strict=False):
        probs = [p[0] if isinstance(p, list) and p else p for p in items(one.get("output_token_logprobs"))]
        tokens = Tokens(token_ids=one["output_ids"], logprobs=probs if len(probs) == len(one["output_ids"]) else None)
        session.replace(call, prompt_token_ids=items(one.get("input_ids")) or None, tokens=[tokens])


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
        id=ids[0] if ids else None,
        extra={"step_id": first.get("step_id"), "ids": ids},
    )
