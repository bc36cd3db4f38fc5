"""What `validate` says: findings, and the report that counts them. Knows no check."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong. `severity`: error (must not be trained on) or warning."""

    code: str
    severity: str
    path: str
    message: str
    trajectory: str | None


class Report(msgspec.Struct):
    """What `validate` found."""

    findings: list[Finding] = []
    #: Trajectories that were looked at.
    checked: int = 0
    #: How many findings there are of each code, those too that `findings` has no room for.
    counts: dict[str, int] = {}
    error_count: int = 0
    #: How many findings of one code are kept: a store's report must fit into memory. None: all.
    most: int | None = None

    @property
    def valid(self) -> bool:
        """Whether there is no error; warnings are allowed."""
        return not self.error_count

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "warning"]

    @property
    def warning_count(self) -> int:
        return sum(self.counts.values()) - self.error_count

    def add(self, findings: Iterable[Finding], ignore: Iterable[str] = ()) -> None:
        """Takes more findings in, but those of ignored codes."""
        skip = set(ignore)
        for finding in findings:
            if finding.code in skip:
                continue
            count = self.counts[finding.code] = self.counts.get(finding.code, 0) + 1
            self.error_count += finding.severity == "error"
            if self.most is None or count <= self.most:
                self.findings.append(finding)

    def to_dict(self) -> dict[str, Any]:
        return {
            "valid": self.valid,
            "checked": self.checked,
            "counts": self.counts,
            "findings": [msgspec.structs.asdict(f) for f in self.findings],
        }
