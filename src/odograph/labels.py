"""Label records: which count, who gave them, of which version of a rubric, and about which part. Reads records, writes none."""

from __future__ import annotations

from collections.abc import Iterable

from .codec import content_hash
from .types import Label as LabelRecord


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


def turn_of(record: LabelRecord) -> int | None:
    """The turn that a label is about, from 1; None where it is about the whole session."""
    found = (record.extra or {}).get("turn")
    return found if type(found) is int else None


def quote_of(record: LabelRecord) -> str | None:
    """The words of a turn that a label is about."""
    found = (record.extra or {}).get("quote")
    return found if isinstance(found, str) else None
