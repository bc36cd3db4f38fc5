"""The report: what was labelled, how the rubrics differ, and how far the judge can be trusted, as Markdown."""

from __future__ import annotations

from collections import Counter
from typing import Any

from odograph import Compared

_SHOWN = 10


def report(rows: dict[str, list[dict[str, Any]]], rubrics: Compared, people: Compared, picture: str) -> str:
    """`rows`: the labels of each fork; `rubrics`: the two forks compared; `people`: people and the judge compared."""
    parts = ["# Trajectory analysis", "", "## Labels", "", *_counts(rows), "", "## Two rubrics", "", *_table(rubrics)]
    parts += ["", f"![comparison]({picture})", "", f"{len(rubrics.changed)} sessions changed their label:", ""]
    for one in rubrics.changed[:_SHOWN]:
        parts.append(f"- `{one.trajectory[-8:]}` {one.a} -> {one.b}: {one.b_why}")
    parts += ["", "## The judge and a person", "", *_table(people), ""]
    if people.agreement is not None:
        parts.append(f"Cohen's kappa {_number(people.agreement.kappa)} on {people.agreement.n} sessions.")
    parts += ["", "| figure | the judge alone | the person alone | corrected |", "|---|---|---|---|"]
    for c in people.corrected:
        cells = ((c.raw, c.raw_interval), (c.people, c.people_interval), (c.corrected, c.interval))
        parts.append(f"| {c.name} | " + " | ".join(f"{_number(mean)} {_span(interval)}" for mean, interval in cells) + " |")
    return "\n".join(parts) + "\n"


def _counts(rows: dict[str, list[dict[str, Any]]]) -> list[str]:
    counts = {name: Counter(row["label__value"] or row["label__status"] for row in some) for name, some in rows.items()}
    values = sorted({value for count in counts.values() for value in count})
    lines = [f"| fork | {' | '.join(values)} | quotes dropped |", f"|---|{'---|' * (len(values) + 1)}"]
    for name, count in counts.items():
        dropped = sum(row["label__evidence_dropped"] for row in rows[name])
        lines.append(f"| {name} | {' | '.join(str(count[value]) for value in values)} | {dropped} |")
    return lines


def _table(found: Compared) -> list[str]:
    head, rows = found.cells()
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _span(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"({interval[0]:.3f} .. {interval[1]:.3f})"
