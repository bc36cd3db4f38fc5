"""tau-bench results: a JSON list of episodes `task_id, reward, info, traj[messages], trial`; a task's trials are a group.

The file does not say which domain, model or agent it is of (its name often does), nor what the user simulator was sent: what
the simulated user said is what the agent observed.

Source: https://github.com/sierra-research/tau-bench, `tau_bench/types.py` and `run.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...shape import content_text, dicts, integer, items, obj, score, text, without
from ...types import End, Reward, Start
from .. import peek
from ..session import Session
from ..transcript import Transcript

NAME = "tau-bench"


def recognise(path: Path, head: bytes) -> bool:
    """A JSON list of objects with `task_id`, `reward` and `traj` (or `info`, where that fills the first 64 KB)."""
    root, keys = peek.keys(head)
    return root == "[" and keys >= {"task_id", "reward"} and not keys.isdisjoint({"traj", "info"})


def read(path: Path) -> Iterator[Session]:
    """A session per episode. Raises InvalidInput where the file is no list of them."""
    value = loads(path.read_bytes())
    episodes = [e for e in dicts(value) if isinstance(e.get("traj"), list) or "reward" in e]
    if not episodes:
        raise InvalidInput("a tau-bench file without an episode")
    seen: Counter[str] = Counter()
    for number, episode in enumerate(episodes):
        session = _session(path, episode, seen)
        if number == 0 and len(episodes) < len(items(value)):
            session.warn("items that are no episode", len(items(value)) - len(episodes))
        yield session


def _session(path: Path, episode: dict[str, Any], seen: Counter[str]) -> Session:
    messages = items(episode.get("traj"))
    info = obj(episode.get("info"))
    task = info.get("task")
    # not the place in the file: a run writes episodes as they end and sorts them at the end
    key = content_hash([episode.get("task_id"), episode.get("trial"), task, messages])
    seen[key] += 1
    session = Session(NAME, key, seen[key])
    if episode.get("traj") and not messages:
        session.warn("a field `traj` that is no list")
    source = {
        **without(episode, "reward", "info", "traj", "task_id"),
        "task": task,
        "format": NAME,
        "path": path.name,
        "session": episode.get("task_id"),
    }
    first = next((content_text(m.get("content")) for m in dicts(messages) if m.get("role") == "user"), None)
    session.add(
        Start(
            task=first,
            agent="tau-bench",
            group=_group(episode, task),
            metadata={"source": {k: v for k, v in source.items() if v is not None}},
        )
    )
    transcript = Transcript(session)
    for message in messages:
        _message(transcript, message)
    transcript.close()
    about = obj(info.get("reward_info"))
    if "reward" in episode:
        session.add(Reward(value=score(episode["reward"]), extra=about or None))
    failure = info.get("error")
    metrics = without(info, "task", "reward_info", "error")
    session.add(End(status="failed" if failure else "completed", error=failure or None, metrics=metrics))
    return session


def _group(episode: dict[str, Any], task: Any) -> str | None:
    """The task's id, which counts from 0 in every domain, and so with the task's hash where the file has the task."""
    id = episode.get("task_id")
    if not isinstance(id, (str, int)) or isinstance(id, bool):
        return None
    return f"{id}-{content_hash(task)[:8]}" if task else str(id)


def _message(transcript: Transcript, message: Any) -> None:
    m = obj(message)
    if m.get("role") == "assistant":
        usage = obj(m.get("usage"))
        transcript.replied(
            message,
            usage=usage or None,
            prompt_tokens=integer(usage.get("prompt_tokens")),
            completion_tokens=integer(usage.get("completion_tokens")),
            reasoning=text(m.get("reasoning_content")),
        )
        return
    transcript.saw(message)
    if not m:
        transcript.session.warn("messages that are no object")
    elif m.get("role") not in ("system", "user", "tool"):
        transcript.session.warn("messages of no known role")
    if m.get("role") == "tool" and not transcript.result(text(m.get("tool_call_id")), result=m.get("content")):
        transcript.session.warn("tool messages that answer no call")
