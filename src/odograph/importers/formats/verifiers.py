"""Results of verifiers environments: JSON lines with `prompt`, `completion`, `reward` and a number for each reward function.

The functions' values monitor (`weight` 0): the environment's `reward` is their weighted sum already. Tool calls may be JSON
strings, or flat objects. A line whose completion was not kept is a trajectory with its reward and no call. Where a line has its
`trajectory` (`-C trajectory`), each of its steps is a call with its own prompt, tokens and usage.

Source: PrimeIntellect-ai/verifiers, `vf-eval` with saved results; `verifiers.legacy.utils.save_utils` of 0.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash
from ...shape import arguments, content_text, dicts, integer, items, nanoseconds, number, obj, score, text, without
from ...types import End, Reward, Start, Status, Tokens
from .. import turns
from ..session import Lines, Session, parse_time, rows_of, sessions_of_rows
from ..transcript import Transcript
from .benchmarks import first_row

NAME = "verifiers"
SURE = 22  # rows that other formats resemble; before ShareGPT, whose rows have no reward that is null
_TIMES = ("generation_ms", "scoring_ms", "total_ms")
_HELD = ("prompt", "completion", "reward", "id", "example_id", "info", "metrics", "error", "trajectory")
_TOTALS = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}


def recognise(path: Path, head: bytes) -> bool:
    """A first row with `prompt`, `completion` and `reward`."""
    first = first_row(head)
    if not first and len(head) >= 65536 and b"\n" not in head.strip():  # a line longer than the head
        return all(k in head for k in (b'"prompt":', b'"completion":', b'"reward":'))
    return {"prompt", "completion", "reward"} <= first.keys() and not isinstance(first["reward"], list | dict | str)


def read(path: Path) -> Iterator[Session]:
    """A session per line. Raises InvalidInput where there is none."""
    lines = Lines(path)
    yield from sessions_of_rows(
        rows_of(path, lines), lines, _is_row, lambda row, key, count: _session(path, row, key, count), "row with a completion"
    )


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and "completion" in value


def _session(path: Path, value: dict[str, Any], key: str, count: int) -> Session:
    timing = obj(value.get("timing"))
    started = parse_time(number(timing.get("start_time")))
    session = Session(NAME, key, count, started=started)
    prompt, answer = (_messages(value.get(name), role) for name, role in (("prompt", "user"), ("completion", "assistant")))
    task = next((content_text(m.get("content")) for m in dicts(prompt) if m.get("role") == "user"), None)
    name, id = text(value.get("task")), value.get("example_id", value.get("id"))
    group = content_hash(prompt)[:16] if id is None else f"{name or path.stem}-{id}"
    info = obj(arguments(value.get("info")))
    totals = {ours: integer(obj(value.get("token_usage")).get(theirs)) for ours, theirs in _TOTALS.items()}
    source = {
        "format": NAME,
        "path": path.name,
        "session": id,
        **without(value, *_HELD),
        "info": info or None,
        "totals": {k: v for k, v in totals.items() if v is not None} or None,
    }
    metadata = {"source": {k: v for k, v in source.items() if v is not None}}
    model = text(value.get("model"))
    session.add(Start(task=task, group=group, model=model, metadata=metadata, source_time=started), "start")
    tools = info.get("oai_tools") or value.get("tool_defs")
    transcript = Transcript(session, model=model, tools=tools)
    whole = [*prompt, *answer]
    for step in dicts(value.get("trajectory")):
        _step(transcript, step)
    if transcript.step < 0:
        turns.tell(transcript, whole, answers=range(len(prompt), len(whole)))
    elif whole[: len(transcript.history)] == transcript.history:
        transcript.sent(whole)
    transcript.close()
    if "reward" in value:
        session.add(Reward(value=score(value["reward"])), "reward")
    functions = {
        k: v for k, v in value.items() if k not in (*_HELD, *_TIMES) and isinstance(v, int | float) and not isinstance(v, bool)
    }
    for name_, one in {**functions, **obj(value.get("metrics"))}.items():
        session.add(Reward(name=str(name_), value=score(one), weight=0, source="function"), "reward", name_)
    took = number(value.get("generation_ms"))
    metrics = {k: value[k] for k in (*_TIMES, "stop_condition") if value.get(k) is not None}
    extra = {"duration": nanoseconds(took / 1000)} if took else None
    error = value.get("error")
    status: Status = "failed" if error else "truncated" if value.get("is_truncated") is True else "completed"
    ended = number(obj(timing.get("scoring")).get("end")) or number(obj(timing.get("generation")).get("end"))
    session.add(End(status=status, error=error, metrics=metrics, extra=extra, source_time=parse_time(ended)), "end")
    return session


def _messages(said: Any, role: str) -> list[Any]:
    found = said if isinstance(said, list) else [] if said is None else [{"role": role, "content": said}]
    return [turns.called(message) if isinstance(message, dict) else message for message in found]


def _step(transcript: Transcript, step: dict[str, Any]) -> None:
    """One request of the model, with what it answered."""
    answers = _messages(step.get("completion"), "assistant")
    if not answers:
        return
    transcript.sent(_messages(step.get("prompt"), "user"))
    response, tokens = obj(step.get("response")), obj(step.get("tokens"))
    usage, ids = obj(response.get("usage")), items(tokens.get("completion_ids"))
    logprobs = items(tokens.get("completion_logprobs"))
    transcript.replied(
        answers[0],
        model=text(response.get("model")) or transcript.model,
        when=parse_time(number(response.get("created"))),
        finish_reason=text(obj(response.get("message")).get("finish_reason")),
        usage=usage or None,
        prompt_tokens=integer(usage.get("prompt_tokens")),
        completion_tokens=integer(usage.get("completion_tokens")),
        prompt_token_ids=items(tokens.get("prompt_ids")) or None,
        tokens=[Tokens(token_ids=ids, logprobs=logprobs if len(logprobs) == len(ids) else None)] if ids else [],
        extra={k: v for k in ("advantage", "trajectory_id", "extras") if (v := step.get(k))} or None,
    )
    for message in answers[1:]:
        transcript.saw(message)
    if step.get("reward") is not None:
        value = score(step["reward"])
        transcript.session.add(Reward(name="step", step=transcript.step, value=value, weight=0), "reward", transcript.step)
