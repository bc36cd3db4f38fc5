"""OpenHands sessions: V0 event lists and `output.jsonl`, V1 event folders and `output.jsonl`. What a file is, and one reader each.

V0: a JSON list of events `id, source, action or observation, tool_call_metadata`; in an `output.jsonl` a line per task with
`history`, events or, in 2024, pairs of action and observation. V1: events with a `kind`, one file each below
`event_service/events`, or as `history` of an `output.jsonl`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..codec import content_hash, loads
from ..errors import InvalidInput
from ..types import Note, Reward
from . import openhands_v0, openhands_v1
from .session import Lines, Session
from .shape import dicts, items, number, obj, without

NAME = "openhands"


def recognise(path: Path, head: bytes) -> bool:
    """Events with `source` and `action` or `observation`, or with a V1 `kind`; a folder with V1 events."""
    if path.is_dir():
        return _events_folder(path) is not None
    start = head.lstrip()
    if not start.startswith((b"[", b"{")):
        return False
    if b'"history"' in start and (b'"instruction"' in start or b'"instance_id"' in start or b'"git_patch"' in start):
        return b'"action"' in start or b'"ActionEvent"' in start or b'"metrics"' in start or b'"test_result"' in start
    return start.startswith(b"[") and b'"source"' in start and b'"action"' in start and b'"args"' in start


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
        yield openhands_v1.from_folder(path, folder)
        return
    try:
        whole = loads(path.read_bytes())
    except InvalidInput:
        whole = None
    if isinstance(whole, list):
        if not dicts(whole):
            raise InvalidInput("an OpenHands file without an event")
        yield openhands_v0.from_events(NAME, whole, {"format": NAME, "path": path.name})
        return
    lines = Lines(path)
    count = 0
    for _, line in [(0, whole)] if isinstance(whole, dict) else lines:
        if not isinstance(line, dict) or not ("history" in line or "instruction" in line):
            continue
        count += 1
        session = _from_line(path, line, count)
        for problem in lines.problems:
            session.warn(problem)
        lines.problems.clear()
        yield session
    if not count:
        raise InvalidInput("an OpenHands output file without a line that has a history")


def _from_line(path: Path, line: dict[str, Any], count: int) -> Session:
    history = items(line.get("history"))
    about = {"format": NAME, "path": path.name, **without(line, "history", "test_result")}
    source = {k: v for k, v in about.items() if v is not None}
    if any(isinstance(e, dict) and "kind" in e for e in history[:3]):
        session = openhands_v1.from_events(NAME, history, source, instruction=line.get("instruction"))
    else:
        events = [e for pair in history for e in (pair if isinstance(pair, list) else [pair])]
        key = [line.get("instance_id", line.get("id")), content_hash(line.get("instruction")), count]
        session = openhands_v0.from_events(NAME, events, source, key=key, instruction=line.get("instruction"))
    result = line.get("test_result")
    end = session.records.pop() if session.records and session.records[-1].__struct_config__.tag == "end" else None
    if result is not None:
        session.add(Note(name="test_result", data=result))
    for name, value in (
        ("final_score", obj(obj(result).get("final_score")).get("result")),
        ("result", obj(result).get("result")),
        ("success", line.get("success")),
        ("correct", line.get("correct")),
    ):
        score = float(value) if isinstance(value, bool) else number(value)
        if score is not None:
            session.add(Reward(name=name, value=score))
    if end is not None:
        session.add(end)
    return session
