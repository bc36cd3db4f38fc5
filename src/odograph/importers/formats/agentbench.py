"""AgentBench runs: JSON lines `{index, error, info, output: {status, result, history}}`; the model's turns have the role `agent`.

Its tools are spoken of in text alone: there is no action. The verdict of a task is in the result, under a name of the task's.

Source: THUDM/AgentBench, `runs.jsonl` and `error.jsonl` of an assignment.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...codec import content_hash
from ...shape import number, obj, score, text, without
from ...types import End, Reward, Start, Status
from ..session import Session, parse_time
from ..transcript import Transcript
from .benchmarks import first_row, sessions

NAME = "agentbench"
SURE = 30  # words that a file of another format may quote
#: What the tasks call their verdict.
_SCORES = ("result", "reward", "score", "success")
_STATUS: dict[str, Status] = {
    "completed": "completed",
    "agent context limit": "truncated",
    "task limit reached": "truncated",
    "cancelled": "cancelled",
}


def recognise(path: Path, head: bytes) -> bool:
    """A row with `index` and an `output` that has a history."""
    row = first_row(head)
    if not row:
        return head.lstrip().startswith(b'{"index":') and b'"output":' in head and b'"history":' in head
    return {"index", "output"} <= row.keys() and ("history" in obj(row["output"]) or {"error", "info"} <= row.keys())


def read(path: Path) -> Iterator[Session]:
    """A session per row. Raises InvalidInput where there is none."""
    yield from sessions(path, lambda r: "index" in r and "output" in r, partial(_session, path), "row with an output")


def _session(path: Path, row: dict[str, Any], key: str, count: int) -> Session:
    about, output = obj(row.get("time")), obj(row.get("output"))
    stamp = number(about.get("timestamp"))
    stopped = parse_time(stamp) if stamp is not None else None
    session = Session(NAME, key, count, started=stopped)
    history = session.objects(output, "history")
    task = next((m.get("content") for m in history if m.get("role") == "user"), None)
    group = (
        f"{row.get('index')}-{content_hash(task)[:8]}" if task is not None else str(row.get("index"))
    )  # each task counts from 0
    source = {"format": NAME, "path": path.name, "session": row.get("index"), **without(row, "output", "error")}
    session.add(Start(task=task, agent=NAME, group=group, metadata={"source": source}), "start")
    transcript = Transcript(session)
    for message in history:
        if message.get("role") == "agent":
            transcript.replied({**message, "role": "assistant"})
        else:
            transcript.saw(message)
    transcript.close()
    given = {n: v for n, v in obj(output.get("result")).items() if n in _SCORES and isinstance(v, bool | int | float)}
    session.score(*((Reward(name=n, value=score(v)), ("reward", n)) for n, v in given.items()))
    word = str(output.get("status"))
    status = "failed" if row.get("error") else _STATUS.get(word, "failed")
    session.add(
        End(
            status=status,
            answer=output.get("result"),
            error=text(row.get("error")),
            metrics={} if output.get("status") is None else {"status": word},
            source_time=stopped,
        ),
        "end",
    )
    return session
