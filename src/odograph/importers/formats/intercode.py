"""InterCode runs: one JSON object of tasks, each with `query` and `turn_history` (actions, observations, rewards).

A step is a turn. What the model was sent and said is not in the file: there is no call. A turn's reward is the step's own; the
task's is the highest, as InterCode counts.

Source: princeton-nlp/intercode, the logs of its experiments.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...shape import items, number, obj, score, text, without
from ...types import Action, End, Reward, Start, StepStart
from ..session import Session

NAME = "intercode"
SURE = 30  # words that a file of another format may quote


def recognise(path: Path, head: bytes) -> bool:
    """An object of tasks with `environment` and `turn_history`."""
    return head.lstrip().startswith(b"{") and all(k in head for k in (b'"turn_history"', b'"environment"', b'"query"'))


def read(path: Path) -> Iterator[Session]:
    """A session per task. Raises InvalidInput where there is none."""
    tasks = obj(loads(path.read_bytes()))
    found = [(k, v) for k, v in tasks.items() if isinstance(v, dict) and "turn_history" in v]
    if not found:
        raise InvalidInput("an InterCode file without a turn_history")
    for number_, (name, task) in enumerate(found):
        session = _session(path, name, task)
        if number_ == 0 and len(found) < len(tasks):
            session.warn("tasks without a turn_history", len(tasks) - len(found))
        yield session


def _session(path: Path, name: str, task: dict[str, Any]) -> Session:
    session = Session(NAME, task.get("environment"), task.get("dataset"), name, content_hash(task))
    turns = obj(task.get("turn_history"))
    source = {"format": NAME, "path": path.name, "session": name, **without(task, "turn_history", "query")}
    group = f"{task.get('dataset')}-{task.get('task_id', name)}"
    session.add(Start(task=task.get("query"), agent=NAME, group=group, metadata={"source": source}), "start")
    observed: Any = None
    columns = [items(turns.get(n)) for n in ("observations", "rewards", "valid_action")]
    if not isinstance(turns.get("actions"), list):
        session.warn("a turn_history without a list of actions")
    for n, action in enumerate(items(turns.get("actions"))):
        result, reward, valid = (c[n] if n < len(c) else None for c in columns)
        session.add(StepStart(step=n, observation=observed), "step", n)
        tool = text(task.get("environment")) or NAME
        ok = valid if isinstance(valid, bool) else None
        session.add(Action(step=n, name=tool, arguments={"action": action}, result=result, ok=ok), "action", n)
        session.add(Reward(step=n, name="turn", value=score(reward), weight=0), "reward", n)
        observed = result
    given = [r for r in map(number, items(turns.get("rewards"))) if r is not None]
    best = obj(task.get("summary")).get("max_reward", max(given, default=None))
    if best is not None:
        session.add(Reward(value=score(best)), "reward")
    session.add(End(), "end")
    return session
