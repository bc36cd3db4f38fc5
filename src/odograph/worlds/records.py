"""Label records: which count, who gave them, and which part of a session they are about. Reads records, and writes none."""

from __future__ import annotations

from collections.abc import Iterable

from ..codec import content_hash
from ..errors import InvalidInput
from ..types import Label as LabelRecord
from .components import Turn


def version_of(technique: str, description: str) -> str:
    """The version of a rubric: a hash of its content, which each label record keeps as `rubric_hash`."""
    return content_hash([technique, description])


def is_by_person(record: LabelRecord) -> bool:
    """Whether a person gave a label."""
    return isinstance(record.extra, dict) and record.extra.get("source") == "human"


def current(labels: Iterable[LabelRecord]) -> list[LabelRecord]:
    """The labels that no later one corrects, and that were not taken back (a value and a score of null)."""
    listed = list(labels)
    replaced = {one.supersedes for one in listed if one.supersedes}
    return [one for one in listed if one.id not in replaced and (one.value is not None or one.score is not None)]


def target_of(turns: list[Turn], turn: int, on: str) -> str | None:
    """The record that a turn came from; on steps, the record of its step. None where it is not known."""
    if not 1 <= turn <= len(turns):
        raise InvalidInput(f"there is no turn {turn}; there are {len(turns)}")
    found = turns[turn - 1].metadata.get("step_record" if on == "step" else "record")
    return found if isinstance(found, str) else None


def turn_of(record: LabelRecord) -> int | None:
    """The turn that a label is about, from 1; None where it is about the whole session."""
    found = (record.extra or {}).get("turn")
    return found if type(found) is int else None


def quote_of(record: LabelRecord) -> str | None:
    """The words of a turn that a label is about."""
    found = (record.extra or {}).get("quote")
    return found if isinstance(found, str) else None
