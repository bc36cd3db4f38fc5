"""Results of verifiers environments: JSON lines with `prompt`, `completion`, `reward` and a number for each reward function.

The functions' values monitor (`weight` 0): the environment's `reward` is their weighted sum already. Tool calls may be JSON
strings. A line whose completion was not kept is a trajectory with its reward and no call.

Source: PrimeIntellect-ai/verifiers, `vf-eval` with saved results.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import loads
from ...errors import InvalidInput
from ...shape import arguments, content_text, dicts, items, nanoseconds, number, obj, score, text, without
from ...types import End, Reward, Start
from ..session import Lines, Session, sessions_of_rows
from ..transcript import Transcript

NAME = "verifiers"
SURE = 20  # rows that other formats resemble
_TIMES = ("generation_ms", "scoring_ms", "total_ms")
_HELD = ("prompt", "completion", "reward", "id", "example_id", "info", "metrics", "error")


def recognise(path: Path, head: bytes) -> bool:
    """A first line with `prompt`, `completion` and `reward`."""
    line = head.lstrip().split(b"\n", 1)[0]
    try:
        first = obj(loads(line))
    except InvalidInput:  # a line longer than the head
        return (
            len(head) >= 65536
            and b"\n" not in head.strip()
            and all(k in line for k in (b'"prompt":', b'"completion":', b'"reward":'))
        )
    return {"prompt", "completion", "reward"} <= first.keys() and not isinstance(first["reward"], list | dict | str)


def read(path: Path) -> Iterator[Session]:
    """A session per line. Raises InvalidInput where there is none."""
    lines = Lines(path)
    rows = (value for _, value in lines)
    yield from sessions_of_rows(
        rows, lines, _is_row, lambda row, key, count: _session(path, row, key, count), "row with a completion"
    )


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and "completion" in value


def _session(path: Path, value: dict[str, Any], key: str, count: int) -> Session:
    session = Session(NAME, key, count)
    asked = value.get("prompt")
    prompt = asked if isinstance(asked, list) else [] if asked is None else [{"role": "user", "content": asked}]
    answer = (
        value["completion"] if isinstance(value["completion"], list) else [{"role": "assistant", "content": value["completion"]}]
    )
    task = next((content_text(m.get("content")) for m in dicts(prompt) if m.get("role") == "user"), None)
    name, id = text(value.get("task")), value.get("example_id", value.get("id"))
    info = obj(arguments(value.get("info")))
    source = {"format": NAME, "path": path.name, "session": id, **without(value, *_HELD), "info": info or None}
    metadata = {"source": {k: v for k, v in source.items() if v is not None}}
    session.add(Start(task=task, group=f"{name or path.stem}-{id}", model=text(value.get("model")), metadata=metadata), "start")
    transcript = Transcript(
        session, model=text(value.get("model")), tools=items(info.get("oai_tools")) or items(value.get("tool_defs"))
    )
    for message in [*prompt, *answer]:
        _message(transcript, obj(message))
    transcript.close()
    if "reward" in value:
        session.add(Reward(value=score(value["reward"])), "reward")
    functions = {
        k: v for k, v in value.items() if k not in (*_HELD, *_TIMES) and isinstance(v, int | float) and not isinstance(v, bool)
    }
    for name_, one in {**functions, **obj(value.get("metrics"))}.items():
        session.add(Reward(name=str(name_), value=score(one), weight=0, source="function"), "reward", name_)
    took = number(value.get("generation_ms"))
    metrics = {k: value[k] for k in _TIMES if value.get(k) is not None}
    extra = {"duration": nanoseconds(took / 1000)} if took else None
    error = value.get("error")
    session.add(End(status="failed" if error else "completed", error=error, metrics=metrics, extra=extra), "end")
    return session


def _message(transcript: Transcript, message: dict[str, Any]) -> None:
    calls = [arguments(c) for c in items(message.get("tool_calls"))]  # some write each as a JSON string
    sent = without(message, "tool_calls")
    if calls:
        sent["tool_calls"] = calls
    if message.get("role") == "assistant":
        transcript.replied(sent)
        return
    transcript.saw(sent)
    if message.get("role") == "tool":
        id = text(message.get("tool_call_id"))
        result = message.get("content")
        if not (transcript.result(id, result=result) if id else transcript.next_result(result=result)):
            transcript.session.warn("tool messages that answer no call")
