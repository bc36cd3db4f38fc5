"""OpenHands sessions: V0 event lists and `output.jsonl`, V1 event folders and `output.jsonl`. What a file is; a reader each.

V0: a JSON list of events `id, source, action or observation, tool_call_metadata`; in an `output.jsonl` a line per task with
`history`, events or, in 2024, pairs of action and observation. V1: events with a `kind`, one file each below
`event_service/events`, or as `history` of an `output.jsonl`.

Source: https://docs.openhands.dev and OpenHands' `openhands/events` (V0) and `openhands-sdk` (V1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...shape import dicts, items, obj, score, text, without
from ...types import End, Note, Reward, Start
from .. import peek
from ..session import Lines, Session, warned
from ..verdicts import verdict
from . import openhands_v0, openhands_v1

NAME = "openhands"


#: What holds the events of a file that is an object: `items` and `events` are the pages of its servers.
_LISTS = ("trajectory", "items", "events")


def recognise(path: Path, head: bytes) -> bool:
    """Events with a source and an action, observation or V1 kind, alone or as a `history`; a folder with V1 events."""
    if not head:
        return path.is_dir() and _events_folder(path) is not None
    root, keys = peek.keys(head)
    if root == "[":
        return _are_events(keys, "")
    if root != "{":
        return False
    if any(_are_events(keys, f"{name}.") for name in _LISTS):
        return "trajectory.response" not in keys
    line = len(keys & {"instruction", "test_result", "metadata", "metrics", "git_patch", "instance", "error"}) >= 2
    if "history" in keys:
        events = not keys.isdisjoint({"history.action", "history.observation", "history.kind"}) and "history.role" not in keys
        empty = not any(key.startswith("history.") for key in keys)
        return line and (events or empty)
    # what stands before `history` may be longer than the head
    return line and not keys.isdisjoint(
        {"metadata.agent_class", "metadata.llm_config", "metadata.llm", "metadata.eval_output_dir"}
    )


def _are_events(keys: frozenset[str], where: str) -> bool:
    inside = {key.removeprefix(where) for key in keys if key.startswith(where)}
    if "source" not in inside:
        return False
    v0 = not inside.isdisjoint({"action", "observation"}) and not inside.isdisjoint({"args", "extras", "tool_call_metadata"})
    return v0 or inside >= {"kind", "timestamp"}


def _events_folder(path: Path) -> Path | None:
    for folder in (path / "event_service", path):
        if (folder / "events").is_dir() and (
            (folder / "base_state.json").is_file() or next((folder / "events").glob("event-*.json"), None) is not None
        ):
            return folder
    return None


def read(path: Path) -> Iterator[Session]:
    """The sessions of a file or folder. Raises InvalidInput where there is none."""
    if path.is_dir():
        folder = _events_folder(path)
        if folder is None:
            raise InvalidInput("a folder without OpenHands events")
        yield openhands_v1.from_folder(NAME, path, folder)
        return
    with path.open("rb") as file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start.startswith(b"["):
        seen: Counter[str] = Counter()
        lines = Lines(path)
        last: Session | None = None
        odd = 0
        for _, line in lines:
            if not (isinstance(line, dict) and ("history" in line or "instruction" in line)):
                odd += 1
                continue
            if last is not None:
                yield last
            last = warned(_from_line(path, line, seen), lines)
        if last is not None:
            if odd:
                last.warn("rows of another shape in this file", odd)
            yield warned(last, lines)
            return
    # a list, or one object over many lines
    value = loads(path.read_bytes())
    if isinstance(value, dict) and "history" in value:
        yield _from_line(path, value, Counter())
        return
    events = next((found for name in _LISTS if (found := items(obj(value).get(name)))), items(value))
    if not dicts(events):
        raise InvalidInput("an OpenHands file without an event, or a line that has a history")
    source = {**without(obj(value), *_LISTS), "format": NAME, "path": path.name}
    if _are_v1(events):
        yield openhands_v1.from_events(NAME, events, source)
    else:
        yield openhands_v0.from_events(NAME, events, source)


def _are_v1(events: list[Any]) -> bool:
    return any("kind" in event for event in dicts(events[:5]))


def _from_line(path: Path, line: dict[str, Any], seen: Counter[str]) -> Session:
    """The session of a line: its events, then what the evaluation says of it."""
    history = items(line.get("history"))
    source = {**without(line, "history", "test_result", "report"), "format": NAME, "path": path.name}
    source["session"] = line.get("instance_id", line.get("id"))
    source = {k: v for k, v in source.items() if v is not None}
    # several lines may be of one task; not the line's number: lines are written as tasks end, and sorted later
    key = content_hash([source.get("session"), line.get("attempt"), line.get("instruction"), history[:2]])
    seen[key] += 1
    if _are_v1(history):
        session = openhands_v1.from_events(NAME, history, source, key=[key, seen[key]])
    else:
        session = openhands_v0.from_events(NAME, history, source, key=[key, seen[key]])
    if line.get("history") and not history:
        session.warn("a field `history` that is no list")
    end = session.records.pop() if isinstance(session.records[-1], End) else None
    for name in ("test_result", "report"):
        if line.get(name) is not None:
            session.add(Note(name=name, data=line[name]))
    rewards = list(_rewards(line))
    found = None if any(reward.name == "resolved" for reward in rewards) else verdict(path, text(source.get("session")))
    rewards += [] if found is None else [found]
    session.score(*((reward, ()) for reward in rewards))
    if end is not None:
        session.add(end)
    assert isinstance(session.records[0], Start)
    return session


def _rewards(line: dict[str, Any]) -> Iterator[Reward]:
    result, report = obj(line.get("test_result")), obj(line.get("report"))
    final = result.get("final_score")
    found: dict[str, tuple[Any, str]] = {
        "final_score": (obj(final).get("result") if isinstance(final, dict) else final, "environment"),
        "result": (result.get("result"), "environment"),
        "resolved": (line.get("resolved", report.get("resolved", obj(result.get("report")).get("resolved"))), "environment"),
        "correct": (line.get("correct"), "environment"),
        # the issue resolver asks a model whether it has succeeded
        "success": (line.get("success"), "judge"),
    }
    for name, (value, source) in found.items():
        if isinstance(value, (bool, int, float)):
            extra = final if name == "final_score" and isinstance(final, dict) else None
            rationale = line.get("result_explanation") if name == "success" else None
            yield Reward(
                name=name,
                value=score(value),
                source=source,
                rationale=rationale if isinstance(rationale, str) else None,
                extra=extra,
            )
