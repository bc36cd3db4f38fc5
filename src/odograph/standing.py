"""Which records of a trajectory stand, and in which order. Knows no store."""

from __future__ import annotations

from bisect import bisect_right
from math import inf

from msgspec.structs import replace

from .types import Action, AnyRecord, Context, End, Label, LLMCall, Note, Reward, Start, StepStart


def standing(records: list[AnyRecord], replaced: set[str]) -> list[AnyRecord]:
    """The records that are not `replaced`, in their order; a correction stands in the place of what it corrects, however late it
    came, and what refers to the one refers to the other."""
    found = _in_time(_referring(_in_place(records, replaced), records) if replaced else records)
    return _as_whole(found) if any(_is_import(r) for r in found[:1]) else found


def _is_import(record: AnyRecord) -> bool:
    """Whether a start is that of a session that was imported."""
    source = record.metadata.get("source") if isinstance(record, Start) else None
    return isinstance(source, dict) and "format" in source


def _in_place(records: list[AnyRecord], replaced: set[str]) -> list[AnyRecord]:
    place: dict[str, int] = {}
    kinds: dict[str, type[AnyRecord]] = {}
    for number, record in enumerate(records):
        kinds[record.id] = type(record)
        # what turned out to be something else stands where it came: a note of a last message, whose place a step takes
        same = record.supersedes is not None and kinds.get(record.supersedes, type(record)) is type(record)
        place[record.id] = place.get(record.supersedes, number) if same and record.supersedes else number
    return sorted((r for r in records if r.id not in replaced), key=lambda r: place[r.id])


def _referring(standing: list[AnyRecord], records: list[AnyRecord]) -> list[AnyRecord]:
    """The records with references to corrections in the place of those to what they correct."""
    moved: dict[str, str] = {}
    for record in reversed(records):  # the last correction of each
        if record.supersedes:
            moved[record.supersedes] = moved.get(record.id, record.id)
    return [_moved(record, moved) for record in standing] if moved else standing


def references(record: AnyRecord) -> dict[str, str]:
    """The other records that a record refers to, by field; but not those whose text or tokens it counts."""
    found = {"parent": record.parent}
    if isinstance(record, Action):
        found["llm_call"] = record.llm_call
    elif isinstance(record, Label) or (isinstance(record, Reward) and not record.span):
        found["target"] = record.target
    return {name: id for name, id in found.items() if id is not None}


def _moved(record: AnyRecord, moved: dict[str, str]) -> AnyRecord:
    changes = {name: moved[id] for name, id in references(record).items() if id in moved}
    return replace(record, **changes) if changes else record


def _in_time(records: list[AnyRecord]) -> list[AnyRecord]:
    """Records in the order of their source's clock where steps came late: behind later steps of their agent."""
    last: dict[str | None, int] = {}
    for record in records:
        if isinstance(record, StepStart) and record.step is not None:
            if record.step < last.get(record.agent, 0):
                break
            last[record.agent] = record.step
    else:
        return records
    times: dict[str, int] = {}
    now = 0
    for record in records:  # what has no time of its own stays behind what it stands behind
        now = times[record.id] = record.source_time or now
    return sorted(records, key=lambda r: (type(r) is not Start, times[r.id]))


def _as_whole(records: list[AnyRecord]) -> list[AnyRecord]:
    """The records of an imported session, in an order that does not depend on how often it was imported while it grew: what a
    sub-agent did stands behind the step that started it, or, where no step did, at its time; a note at its time; the end behind
    all that was done."""
    home = _started_by(records)
    last = {(r.agent, r.step): r.id for r in records if isinstance(r, (LLMCall, Action))}
    behind: dict[str, list[AnyRecord]] = {}  # by the action that started it
    places: dict[str, list[str]] = {}  # by the last record of a step: the actions of the step that started somebody
    for action in (r for r in records if isinstance(r, Action)):
        places.setdefault(action.id if action.step is None else last[action.agent, action.step], []).append(action.id)
    outside: list[AnyRecord] = []
    for record in records:
        by = home.get(record.id)
        (outside if by is None else behind.setdefault(by, [])).append(record)
    found: list[AnyRecord] = []
    now = [iter(_noted(_side_by_side(outside)))]
    while now:
        one = next(now[-1], None)
        if one is None:
            now.pop()
            continue
        found.append(one)
        now += [iter(_noted(behind.pop(by))) for by in reversed(places.get(one.id, ())) if by in behind]
    found += [r for left in behind.values() for r in left]  # agents that started each other
    done = max((n for n, r in enumerate(found) if r.step is not None), default=0)
    ends = [r for r in found[:done] if isinstance(r, End)]
    return [*(r for r in found[: done + 1] if not isinstance(r, End)), *ends, *found[done + 1 :]] if ends else found


def _started_by(records: list[AnyRecord]) -> dict[str, str]:
    """By the id of a record of a sub-agent, the action of another agent that it happened inside."""
    by_id = {r.id: r for r in records}
    found: dict[str, str | None] = {}
    for record in records:
        path: list[str] = []
        at: AnyRecord | None = record
        action = None
        while at is not None and at.id not in found:
            path.append(at.id)
            found[at.id] = None  # parents that lead round in a circle
            above = by_id.get(at.parent or "")
            if isinstance(above, Action) and above.agent != at.agent:
                action = above.id
                break
            at = above
        else:
            action = found[at.id] if at is not None else None
        found |= dict.fromkeys(path, action)
    return {id: action for id, action in found.items() if action is not None}


def _side_by_side(records: list[AnyRecord]) -> list[AnyRecord]:
    """Records of agents that none of them started, by their source's clock where that says something else; each agent's own
    order stays."""
    latest: dict[str | None, int] = {}
    times: dict[str, int] = {}
    for record in records:
        times[record.id] = latest[record.agent] = max(latest.get(record.agent, 0), record.source_time or 0)
    steps = [times[r.id] for r in records if isinstance(r, StepStart)]
    if len(latest) < 2 or steps == sorted(steps):
        return records
    return sorted(records, key=lambda r: (type(r) is not Start, times[r.id], r.agent or ""))


def _noted(records: list[AnyRecord]) -> list[AnyRecord]:
    """Records with the notes where the source's clock puts them: behind what was done in a stretch from one step (or call without
    a step) to the next. A note without a time stays behind what it stands behind, and is the last of its stretch where it tells
    of messages without a reply: they stood at the end of the file once."""
    notes: list[tuple[int, float, bool, Note]] = []  # by stretch and time
    others: list[AnyRecord] = []
    ends, times = [0], [-inf]  # of each stretch: the place behind what was done in it, and when it began
    for record in records:
        if isinstance(record, Note) and record.step is None and (record.source_time is not None or record.name == "unanswered"):
            when = inf if record.source_time is None else record.source_time
            notes.append((len(times) - 1, when, record.name != "unanswered", record))
            continue
        others.append(record)
        if isinstance(record, StepStart) or (isinstance(record, LLMCall) and record.step is None):
            times.append(max(times[-1], record.source_time or 0))
            ends.append(len(others))
        elif isinstance(record, Start | LLMCall | Action | Context | Note):
            ends[-1] = len(others)
    if not notes:
        return records
    placed = sorted(
        ((ends[at if when == inf else bisect_right(times, when) - 1], when, other, note) for at, when, other, note in notes),
        key=lambda n: n[:3],
    )
    found: list[AnyRecord] = []
    at = 0
    for end, _, _, note in placed:
        found += [*others[at:end], note]
        at = max(at, end)
    return found + others[at:]
