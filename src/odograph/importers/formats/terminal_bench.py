"""`results.json` of Terminal-Bench: one trajectory a trial, with its task, its verdict and its totals; the agent's steps are
not in the file.

Source: laude-institute/terminal-bench, `BenchmarkResults`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import loads
from ...errors import InvalidInput
from ...shape import dicts, integer, obj, score, text
from ...types import End, Reward, Start, Status
from ..session import Session, parse_time

NAME = "terminal-bench"
BARE = True
SURE = 30  # words that a file of another format may quote


def recognise(path: Path, head: bytes) -> bool:
    """An object with `results` of trials that say `is_resolved`."""
    return head.lstrip().startswith(b"{") and all(k in head for k in (b'"results"', b'"trial_name"', b'"is_resolved"'))


def read(path: Path) -> Iterator[Session]:
    """A session per trial. Raises InvalidInput where there is none."""
    whole = obj(loads(path.read_bytes()))
    trials = [t for t in dicts(whole.get("results")) if t.keys() & {"is_resolved", "trial_name"}]
    if not trials:
        raise InvalidInput("a Terminal-Bench file without a trial")
    for number_, trial in enumerate(trials):
        session = _session(path, whole, trial)
        if number_ == 0 and len(trials) < len(whole["results"]):
            session.warn("results that are no trial", len(whole["results"]) - len(trials))
        yield session


def _session(path: Path, whole: dict[str, Any], trial: dict[str, Any]) -> Session:
    started = parse_time(trial.get("trial_started_at"))
    session = Session(NAME, whole.get("id"), trial.get("id"), trial.get("trial_name"), started=started)
    totals = {
        "prompt_tokens": integer(trial.get("total_input_tokens")),
        "completion_tokens": integer(trial.get("total_output_tokens")),
    }
    source = {"format": NAME, "path": path.name, "session": trial.get("id"), "trial": trial}
    start = Start(
        task=trial.get("instruction"),
        agent=NAME,
        group=text(trial.get("task_id")),
        metadata={"source": source},
        source_time=started,
    )
    session.add(start, "start")
    session.add(Reward(name="is_resolved", value=score(trial.get("is_resolved"))), "is_resolved")
    mode = text(trial.get("failure_mode"))
    status: Status = "completed"
    if mode not in (None, "unset", "none"):
        status = "timeout" if "timeout" in mode else "truncated" if "context" in mode or "length" in mode else "failed"
    error = mode if status != "completed" else None
    metrics = {k: v for k, v in totals.items() if v is not None}
    session.add(End(status=status, error=error, metrics=metrics, source_time=parse_time(trial.get("trial_ended_at"))), "end")
    return session
