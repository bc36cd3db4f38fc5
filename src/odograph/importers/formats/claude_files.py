"""The files that make up a Claude Code session: its own, those of its sub-agents, and that of the session it goes on from."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...shape import dicts, obj, text
from .. import peek
from ..session import Lines, parse_time

_HEAD = 64 * 1024
_Mark = tuple[str | None, bool, int]


class Parent(NamedTuple):
    """Where a session goes on from."""

    session: Any  #: the id of the session that goes on
    of: Any  #: the id of the session that it goes on from
    first: str | None  #: what that one calls its first message, where it is said
    shared: int  #: how many of its first events are that one's


class Agent(NamedTuple):
    """A sub-agent that has a file of its own."""

    id: str
    kind: str | None
    call: str | None  #: the tool call that started it
    events: list[dict[str, Any]]
    problems: Counter[str]


class File:
    """The events of one file, the lines of one API reply put together at the place of the first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = Lines(path)
        self.problems: Counter[str] = Counter()
        self.events: list[dict[str, Any]] = self._merged(lines)
        self.problems.update(lines.problems)
        if lines.glued:
            self.problems["lines that held several objects"] += lines.glued

    @property
    def first(self) -> dict[str, Any] | None:
        """The first message."""
        return next((e for e in self.events if "message" in e and e.get("type") in ("user", "assistant")), None)

    def _merged(self, lines: Iterable[tuple[int, Any]]) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        replies: dict[tuple[str, bool], dict[str, Any]] = {}
        seen: dict[str, Any] = {}
        others: set[tuple[str, str]] = set()
        for _, value in lines:
            if not isinstance(value, dict):
                self.problems["lines that are no object"] += 1
                continue
            if value.keys() & {"payload", "parentId"} and not value.keys() & {"uuid", "sessionId"}:  # Codex's, pi's
                self.problems["lines of another program's session, kept as notes"] += 1
            uuid = value.get("uuid")
            message = value.get("message")
            if isinstance(uuid, str) and value.get("type") in ("user", "assistant"):
                said = obj(message).get("content")
                if uuid not in seen:
                    seen[uuid] = said
                elif said == seen[uuid] or (uuid, content_hash(said)) in others:  # the same line again
                    continue
                else:
                    others.add((uuid, content_hash(said)))
                    self.problems["messages under a uuid that another message has, kept beside that message"] += 1
            elif isinstance(uuid, str) and seen.setdefault(uuid, value) is not value and seen[uuid] == value:
                continue
            if value.get("type") != "assistant" or not isinstance(message, dict) or not text(message.get("id")):
                events.append(value)
                continue
            key = (message["id"], bool(value.get("isSidechain")))
            reply = replies.get(key)
            if reply is None or is_program(value, message) or _is_another(reply, value):
                blocks = _blocks(message.get("content"))
                when = [value.get("timestamp")] * len(blocks)
                replies[key] = reply = {**value, "_uuids": [], "_times": when, "message": {**message, "content": blocks}}
                events.append(reply)
                continue
            merged = reply["message"]
            known = [
                b.get("id") for b in merged["content"] if b.get("type") == "tool_use"
            ]  # a list: a damaged id may be of any type
            more = [b for b in _blocks(message.get("content")) if b.get("type") != "tool_use" or b.get("id") not in known]
            reply["message"] = {
                **merged,
                **{k: v for k, v in message.items() if v is not None},
                "content": merged["content"] + more,
            }
            reply["_uuids"].append(str(uuid))
            reply["_times"] += [value.get("timestamp")] * len(more)
            reply["_last"] = value.get("timestamp")
        return events


def is_program(event: dict[str, Any], message: dict[str, Any]) -> bool:
    """Whether the program wrote an answer in the model's place: an error of the API, or none at all."""
    return message.get("model") == "<synthetic>" or event.get("isApiErrorMessage") is True


def put_in_place(event: dict[str, Any]) -> dict[str, Any] | None:
    """What the program wrote in the model's place and sends with later prompts: no errors of the API."""
    message = obj(event.get("message"))
    if event.get("type") != "assistant" or message.get("model") != "<synthetic>" or event.get("isApiErrorMessage") is True:
        return None
    blocks = _blocks(message.get("content"))
    said = next((b["text"] for b in blocks if isinstance(b.get("text"), str)), "")
    return None if not said or said.startswith("API Error") else {"role": "assistant", "content": blocks}


def _is_another(reply: dict[str, Any], line: dict[str, Any]) -> bool:
    """Whether a line is of another reply than one with its id: some servers give each of their replies the same."""
    pairs = (
        (reply.get("requestId"), line.get("requestId")),
        (reply["message"].get("stop_reason"), line["message"].get("stop_reason")),
    )
    return any(a and b and a != b for a, b in pairs)


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else dicts(content)


def session_of(path: Path) -> Path | None:
    """The file of the session that a sub-agent's file belongs to, where it is there."""
    if not path.name.startswith("agent-"):
        return None
    inside = next((p for p in path.parents if p.name == "subagents"), None)  # those of a workflow lie deeper
    if inside is not None:
        found = inside.parent.with_name(inside.parent.name + ".jsonl")
        return found if found.is_file() and os.access(found, os.R_OK) else None
    first = _first(path)
    session = text(first.get("sessionId")) if first and first.get("isSidechain") else None
    found = path.with_name(f"{session}.jsonl") if session and "/" not in session else path
    return found if found != path and found.is_file() and os.access(found, os.R_OK) else None


def agents_of(file: File, named: Path | None) -> list[Agent]:
    """The sub-agents of a session: those in the folder beside its file, and those beside it that it or `named` speaks of."""
    path = file.path
    paths = dict.fromkeys(files_of_agents(path))  # a session may have many: none is looked for in a list
    for event in file.events:
        id = obj(event.get("toolUseResult")).get("agentId")
        if isinstance(id, str) and id and "/" not in id and "\0" not in id and len(id) < 100:
            beside = path.with_name(f"agent-{id}.jsonl")
            if beside not in paths and beside.is_file():
                paths[beside] = None
    if named is not None:
        paths[named] = None
    found = [_agent(p) for p in paths if p != path]
    return sorted((a for a in found if a.events), key=_order)


def names_of(agents: Iterable[Agent]) -> dict[str, list[int]]:
    """Which of the agents go by the id of a tool call, or by an agent's."""
    found: dict[str, list[int]] = {}
    for n, agent in enumerate(agents):
        for name in filter(None, (agent.id, agent.call)):
            found.setdefault(name, []).append(n)
    return found


def files_of_agents(path: Path) -> list[Path]:
    """The files in the folder beside a session's file."""
    return peek.files_in(path.with_suffix("") / "subagents", "**/agent-*.jsonl") if path.suffix == ".jsonl" else []


def _order(agent: Agent) -> tuple[int, str]:
    return next((t for e in agent.events if (t := parse_time(e.get("timestamp"))) is not None), 0), agent.id


def _agent(path: Path) -> Agent:
    about: dict[str, Any] = {}
    meta = path.with_suffix(".meta.json")
    file = File(path)
    if meta.is_file():
        try:
            about = obj(loads(meta.read_bytes()))
        except InvalidInput:  # written at this moment: the next import reads it
            file.problems["damaged .meta.json of a sub-agent"] += 1
    id = path.stem.removeprefix("agent-")
    return Agent(id, text(about.get("agentType")), text(about.get("toolUseId")), file.events, file.problems)


def parent_of(file: File) -> Parent | None:
    """What a session goes on from: its lines say so, or are another session's, or a file beside it has them too."""
    first = file.first
    if first is None or first.get("isSidechain"):
        return None
    events = file.events
    origin = obj(first.get("forkedFrom"))
    if text(origin.get("sessionId")):
        shared = _leading(events, lambda e: "forkedFrom" in e)
        return Parent(first.get("sessionId"), origin["sessionId"], text(origin.get("messageUuid")), shared)
    own = file.path.stem
    if first.get("sessionId") != own and any(e.get("sessionId") == own for e in events):
        shared = _leading(events, lambda e: e.get("sessionId") != own)
        return Parent(own, first.get("sessionId"), None, shared)
    return _beside(file, first)


def _leading(events: list[dict[str, Any]], belongs: Any) -> int:
    """How many events come before the first message that does not belong."""
    return next((n for n, e in enumerate(events) if "message" in e and not belongs(e)), len(events))


def _beside(file: File, first: dict[str, Any]) -> Parent | None:
    """Two files with the same messages under two sessions: one is the other's copy, with what came then. The copy has nothing of
    its own among these messages; where that tells nothing, the one whose own lines began first is the parent."""
    uuid = text(first.get("uuid"))
    if uuid is None or file.path.suffix != ".jsonl":
        return None
    best: tuple[Any, ...] | None = None
    found: Parent | None = None
    mine = _marks(file.events)
    for path in peek.files_in(file.path.parent, "*.jsonl"):
        if path == file.path:
            continue
        other = _first(path)
        if other is None or other.get("uuid") != uuid or other.get("timestamp") != first.get("timestamp"):
            continue
        theirs = _marks_in(path)
        known = {uuid for uuid, _, _ in theirs}
        shared = _leading(file.events, lambda e, known=known: text(e.get("uuid")) in known)
        session = next((e.get("sessionId") for e in file.events[shared:] if "message" in e), first.get("sessionId"))
        if not any("message" in e for e in file.events[shared:]) or session == other.get("sessionId"):
            continue
        ours, its = _own(mine, theirs), _own(theirs, mine)
        if its[0] is not None and (*its[:2], str(other.get("sessionId"))) > (*ours[:2], str(session)):
            continue
        rank = (-shared, bool(its[0]), its[1], path.name)
        if best is None or rank < best:
            best, found = rank, Parent(session, other.get("sessionId"), None, shared)
    return found


def _own(marks: list[_Mark], others: list[_Mark]) -> tuple[bool | None, int]:
    """Of the events that another session has not: whether none stands among those that both have (None where there are no
    messages), and when the first was."""
    both = {uuid for uuid, _, _ in others if uuid}
    places = [n for n, (uuid, is_message, _) in enumerate(marks) if is_message and uuid in both]
    own = [n for n, (uuid, _, _) in enumerate(marks) if uuid not in both]
    if not any(marks[n][1] for n in own):
        return None, 0
    among = any(places[0] < n < places[-1] for n in own) if places else False
    return not among, min((when for n in own if (when := marks[n][2])), default=0)


def _marks_in(path: Path) -> list[_Mark]:
    about = path.stat()
    return _marks_of(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=64)
def _marks_of(path: Path, size: int, changed: int) -> list[_Mark]:
    """Of another session. Many sessions may go on from one, and each looks at all others: a file is read once for each of its
    states."""
    return _marks(File(path).events)


def _marks(events: list[dict[str, Any]]) -> list[_Mark]:
    """Of each event: its uuid, whether it is a message, and when."""
    return [(text(e.get("uuid")), "message" in e, parse_time(e.get("timestamp")) or 0) for e in events]


def _first(path: Path) -> dict[str, Any] | None:
    try:
        about = path.stat()
        return _first_of(path, about.st_size, about.st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _first_of(path: Path, size: int, changed: int) -> dict[str, Any] | None:
    """The first message of a file, from its first 64 KB: looked at once for each state of the file."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for line in head.split(b"\n"):
        try:
            value = loads(line)
        except InvalidInput:
            continue
        if isinstance(value, dict) and "message" in value and value.get("type") in ("user", "assistant"):
            return {k: value.get(k) for k in ("uuid", "sessionId", "timestamp", "isSidechain")}
    return None
