"""An agent's own session file beside what crossed the wire: what the wire has not is added to the trajectory of the wire.

The wire is exact about calls and about what models were told. A session file knows more of tools (how long, with which details),
of what people did, and of results that no request carried any more. Nothing that the wire says is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from .. import importers
from ..capture.run import Run
from ..codec import record_to_dict
from ..errors import OdographError
from ..shape import text
from ..trajectory import Trajectory
from ..types import Action, AnyRecord, Context, End, Label, LLMCall, Note, Start
from .trails import arguments_of

_MOST_FILES = 50
#: Of a record: where it is, which is another place here.
_PLACE = ("kind", "id", "trajectory", "seq", "time", "writer", "parent", "agent", "step", "llm_call")


class Merged(msgspec.Struct):
    """What a merge did: the files that it took, tools that it said more of, and records that it added."""

    files: list[str] = []
    enriched: int = 0
    added: int = 0


def files_since(folder: Path, pattern: str, since: float, sessions: Iterable[str]) -> list[Path]:
    """The session files that changed since a time (seconds); those of named sessions alone where any is of one. Newest first."""
    found: list[tuple[float, Path]] = []
    for path in folder.glob(pattern):
        try:
            when = path.stat().st_mtime
        except OSError:
            continue
        if when >= since and path.is_file():
            found.append((when, path))
    newest = [path for _, path in sorted(found, reverse=True)][:_MOST_FILES]
    named = [path for path in newest if any(name and name in path.name for name in sessions)]
    return named or newest[:1]


def merge(paths: list[Path], t: Trajectory, run: Run) -> Merged:
    """Adds to a trajectory what the session files have beside it. A file that can't be read adds nothing."""
    merged = Merged()
    for path in paths:
        try:
            importer = importers.recognise(path)
            read = list(importer.read(path)) if importer is not None else []
        except (OdographError, OSError):
            continue
        for session in read:
            merged.files.append(str(path))
            _merge(session.format, session.records, t, run, merged)
    return merged


def _merge(format: str, records: list[AnyRecord], t: Trajectory, run: Run, merged: Merged) -> None:
    told = {r.tool_call_id for r in records if isinstance(r, Action)}
    done = {(a.llm_call, a.tool_call_id) for a in t.actions}
    wires = [_Tool(a.tool_call_id, a.name, a.arguments, (a,)) for a in t.actions]
    asked = [
        _Tool(text(tool.id), tool.name, arguments_of(tool.arguments), (step, call, tool.id))
        for step in t.steps
        for call in step.llm_calls
        for c in call.choices
        for tool in c.tool_calls
        if not isinstance(tool.id, str) or (call.id, tool.id) not in done
    ]
    calls = 0
    about: dict[str, Any] = {"format": format}
    for record in records:
        if isinstance(record, Action):
            if (wire := _of(record, wires, told)) is not None:
                _enrich(wire[0], record, t, run)
                merged.enriched += 1
            elif (found := _of(record, asked, told)) is not None:
                step, call, id = found
                made = {k: v for k, v in record_to_dict(record).items() if k not in _PLACE}
                scope = run.at(step)
                run.recorder.write("action", made | {"llm_call": call.id, "tool_call_id": id}, step.id, scope.agent, step.index)
                merged.added += 1
        elif isinstance(record, LLMCall):
            calls += 1
        elif isinstance(record, (Context, Note, Label)):
            made = {k: v for k, v in record_to_dict(record).items() if k not in _PLACE}
            run.recorder.write(str(record.__struct_config__.tag), made, run.root, None, None)
            merged.added += 1
        elif isinstance(record, Start):
            about |= {"metadata": record.metadata, "agent_version": record.agent_version, "task": record.task}
        elif isinstance(record, End):
            about |= {"metrics": record.metrics, "status": record.status}
    run.note({k: v for k, v in {**about, "llm_calls": calls}.items() if v not in (None, {})}, name="session")
    merged.added += 1


class _Tool(NamedTuple):
    """A tool call of the wire, and where it is."""

    id: str | None
    name: str | None
    arguments: Any
    at: Any


def _of(record: Action, there: list[_Tool], told: set[str | None]) -> Any:
    """Where the tool call is that a session tells of; it is taken out of those `there`. It is the first of its id. An agent whose
    model gives no ids has others in its session than on the wire: then it is the first of its name and arguments that the
    session has no id of (`told`)."""
    found = next((one for one in there if one.id is not None and one.id == record.tool_call_id), None) or next(
        (o for o in there if o.id not in told and (o.name, o.arguments) == (record.name, record.arguments)), None
    )
    if found is None:
        return None
    there.remove(found)
    return found.at


def _enrich(wire: Action, told: Action, t: Trajectory, run: Run) -> None:
    """A correction of the wire's action: with the session's times and outcome, and with what else it says beside. An action that
    other records are inside of stays; a note inside of it says the same."""
    made = {k: v for k, v in record_to_dict(wire).items() if k not in (*_PLACE, "supersedes")}
    more = {k: v for k, v in record_to_dict(told).items() if k not in (*_PLACE, "name", "arguments", "tool_call_id")}
    if wire.ok is None and told.ok is not None:
        made["ok"] = told.ok
    for name in ("started", "duration"):
        if getattr(told, name) is not None:
            made[name] = getattr(told, name)
    beside = {k: v for k, v in more.items() if made.get(k) != v}
    if beside:
        made["extra"] = {**(wire.extra or {}), "session": beside}
    agent = None if wire.agent == t.agent else wire.agent
    if any(record.parent == wire.id for record in t.records):
        run.recorder.write("note", {"name": "session", "data": more}, wire.id, agent, wire.step)
        return
    made |= {"supersedes": wire.id, "llm_call": wire.llm_call}
    run.recorder.write("action", made, wire.parent, agent, wire.step)
