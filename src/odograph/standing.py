"""Which records of a trajectory stand, and in which order. Knows no store."""

from __future__ import annotations

from .types import AnyRecord, Start, StepStart


def standing(records: list[AnyRecord], replaced: set[str]) -> list[AnyRecord]:
    """The records that are not `replaced`, in their order; a correction stands in the place of what it corrects, however late it
    came."""
    return _in_time(_in_place(records, replaced) if replaced else records)


def _in_place(records: list[AnyRecord], replaced: set[str]) -> list[AnyRecord]:
    place: dict[str, int] = {}
    for number, record in enumerate(records):
        place[record.id] = place.get(record.supersedes, number) if record.supersedes else number
    return sorted((r for r in records if r.id not in replaced), key=lambda r: place[r.id])


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
