"""tau-bench results: a JSON list of episodes `task_id, reward, info, traj[messages], trial`; a task's trials are a group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..codec import content_hash, encode, loads, tagged
from ..errors import InvalidInput
from ..types import End, Reward, Start
from .session import Session
from .shape import content_text, dicts, integer, items, number, obj, text, without
from .transcript import Transcript

NAME = "tau-bench"


def recognise(path: Path, head: bytes) -> bool:
    """A JSON list whose first object has `task_id`, `reward` and `traj` or `info`."""
    start = head.lstrip()[:1] == b"["
    return (
        start
        and b'"task_id"' in head
        and b'"reward"' in head
        and (b'"traj"' in head or b'"user_cost"' in head or b'"reward_info"' in head)
        and b'"simulations"' not in head
    )


def read(path: Path) -> Iterator[Session]:
    """A session per episode. Raises InvalidInput where the file is no list of them."""
    value = loads(path.read_bytes())
    episodes = [e for e in dicts(value) if isinstance(e.get("traj"), list) or "reward" in e]
    if not episodes:
        raise InvalidInput("a tau-bench file without an episode")
    for number_, episode in enumerate(episodes):
        messages = items(episode.get("traj"))
        info = obj(episode.get("info"))
        task = obj(info.get("task"))
        session = Session(NAME, episode.get("task_id"), episode.get("trial"), content_hash([task, messages[:3]]), number_)
        if number_ == 0 and len(episodes) < len(items(value)):
            session.warn("items that are no episode", len(items(value)) - len(episodes))
        first = next((content_text(m.get("content")) for m in dicts(messages) if m.get("role") == "user"), None)
        about = {
            "format": NAME,
            "path": path.name,
            "session": episode.get("task_id"),
            "trial": episode.get("trial"),
            "task": task,
        }
        session.add(
            Start(
                task=first,
                agent="tau-bench",
                group=encode(episode["task_id"]).decode() if "task_id" in episode else None,
                metadata={"source": {**about, **without(episode, "task_id", "reward", "info", "traj", "trial")}},
            )
        )
        transcript = Transcript(session)
        for message in messages:
            m = obj(message)
            if m.get("role") == "assistant":
                usage = obj(m.get("usage"))
                transcript.replied(
                    message,
                    usage=usage or None,
                    prompt_tokens=integer(usage.get("prompt_tokens")),
                    completion_tokens=integer(usage.get("completion_tokens")),
                )
                continue
            transcript.saw(message)
            if m.get("role") == "tool" and not transcript.result(text(m.get("tool_call_id")), result=m.get("content")):
                session.warn("tool messages that answer no call")
        if "reward" in episode:
            reward = episode["reward"]
            value_ = number(reward)
            if value_ is None and isinstance(reward, float):
                session.add(Reward(value=tagged("float", str(reward)), extra=obj(info.get("reward_info")) or None))
            else:
                session.add(Reward(value=value_, extra=obj(info.get("reward_info")) or None))
        failure = info.get("error")
        session.add(End(status="failed" if failure else "completed", error=failure, metrics=without(info, "task", "reward_info")))
        yield session
