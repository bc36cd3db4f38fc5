"""Damaged lines of a store's journals as findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from .define import Check
from .report import Finding

MALFORMED = Check("malformed_json", "error", "a journal line that does not parse")
TORN = Check("torn_line", "warning", "a last line cut short by a kill; it was never acknowledged")


class Damaged(Protocol):
    """A line of a journal that can't be read."""

    @property
    def file(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def torn(self) -> bool: ...


def damage_findings(damages: Iterable[Damaged]) -> Iterator[Finding]:
    """A finding for each damaged line."""
    for damage in damages:
        if damage.torn:
            check, message = TORN, f"{damage.reason}: its writer was killed while writing it"
        else:
            check, message = MALFORMED, f"a line of {damage.file} at byte {damage.offset}: {damage.reason}"
        yield Finding(check.code, check.severity, f"{damage.file}:{damage.offset}", message, None)
