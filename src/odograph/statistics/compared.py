"""What a comparison found: measures, agreement, what changed, and how people correct a judge. Values, and their texts.

Computes nothing; `comparison` and `labelled` do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from .agreement import Bin, Confusion
from .drawing import drawn_by, save
from .intervals import Interval
from .parts import Distribution

_PROBED = {
    "length": "correlation of scores with length",
    "family": "scores of the judge's own family less others",
    "order": "verdicts on two trajectories that change with their order",
}
#: The probability with which `detectable` would have been found.
POWER = 0.8


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was measured on both sides, and how it differs: b less a."""

    name: str
    a: Distribution
    b: Distribution
    difference: float
    interval: Interval | None
    #: How the interval was made; None without one.
    method: str | None
    #: How many pairs were compared; 0 where nothing was paired.
    pairs: int
    #: What counts as one: "trajectory", or "task", the mean of its attempts.
    unit: Literal["trajectory", "task"]
    test: str
    p_value: float
    #: Corrected for all measures that are compared at once (Holm).
    corrected: float
    #: The smallest true difference that would have been found with a probability of 80 %; None for too few.
    detectable: float | None


class Changed(msgspec.Struct, frozen=True):
    """A trajectory that the two sides see differently. `a_why`, `b_why`: the reasons that they gave, if any."""

    trajectory: str
    a: float | str
    b: float | str
    a_why: str | None = None
    b_why: str | None = None


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How far both sides agree about the same trajectories."""

    n: int
    #: The share of equal values, and Wilson's interval of it.
    same: float
    interval: Interval
    #: Cohen's, of labels and two-valued scores; None for other scores, and where one label is all there is.
    kappa: float | None
    #: Krippendorff's: nominal for labels, interval for scores.
    alpha: float | None
    #: Of labels and two-valued scores: rows are a's, columns b's.
    confusion: Confusion | None


class Corrected(msgspec.Struct, frozen=True, kw_only=True):
    """A mean that a judge alone estimates, with its bias, and that people's labels of a part correct (prediction-powered)."""

    #: "score", or the label whose share is estimated.
    name: str
    #: What the judge alone says of all, and what people alone say of theirs.
    raw: float
    raw_interval: Interval | None
    people: float
    people_interval: Interval | None
    corrected: float
    interval: Interval | None
    #: How many people labelled, and how many the judge alone did.
    n_people: int
    n_judge: int


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a judge's scores mean what they say: of those it scores 0.8, people should accept 80 %."""

    bins: list[Bin]
    #: Expected calibration error; 0 is best.
    error: float
    brier: float


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """Whether scores go with what they should not: `length` (a correlation), `family` (own family less others), `order` (of two
    trajectories that were compared in both orders: the share of verdicts that changed)."""

    side: str
    kind: Literal["length", "family", "order"]
    value: float
    interval: Interval | None
    p_value: float
    n: int


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What `compare` found. `print` it, or take `to_dict()`, `plot("file.svg")`."""

    names: tuple[str, str]
    by: str | None
    confidence: float
    measures: list[Measure]
    #: None where the sides are not about the same trajectories.
    agreement: Agreement | None
    #: The largest changes first.
    changed: list[Changed]
    #: Trajectories of one side alone, which are in no pair.
    only: tuple[int, int]
    #: Where one side is people: their labels as a correction of the judge, and how well its scores are calibrated.
    corrected: list[Corrected] = []
    calibration: Calibration | None = None
    #: Krippendorff's alpha among several people.
    people_alpha: float | None = None
    probes: list[Probe] = []
    #: Of two versions of a rubric: the lines that changed, marked with - and +.
    rubric: list[str] = []

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what `odograph compare --json` prints."""
        found = msgspec.structs.asdict(self)
        found["measures"] = [
            msgspec.structs.asdict(m) | {side: msgspec.structs.asdict(getattr(m, side)) for side in ("a", "b")}
            for m in self.measures
        ]
        found["changed"] = [msgspec.structs.asdict(c) for c in self.changed]
        if self.agreement is not None:
            matrix = self.agreement.confusion
            found["agreement"] = msgspec.structs.asdict(self.agreement) | {"confusion": matrix and matrix._asdict()}
        for name in ("corrected", "probes"):
            found[name] = [msgspec.structs.asdict(one) for one in getattr(self, name)]
        if self.calibration is not None:
            bins = [one._asdict() for one in self.calibration.bins]
            found["calibration"] = msgspec.structs.asdict(self.calibration) | {"bins": bins}
        return found

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """A table as texts: its head, and a row for each measure."""
        sure = f"{self.confidence:.0%}"
        head = ["", self.names[0], "n", self.names[1], "n", "difference", sure, "p", "corrected", "detectable", "compared by"]
        rows = [
            [
                *(m.name, _number(m.a.mean), str(m.a.n), _number(m.b.mean), str(m.b.n), _number(m.difference)),
                *("-" if m.interval is None else f"{_number(m.interval[0])} .. {_number(m.interval[1])}",),
                *(_number(m.p_value), _number(m.corrected), _number(m.detectable)),
                *(f"{m.test}, {plural(m.pairs, m.unit)}" if m.pairs else m.test,),
            ]
            for m in self.measures
        ]
        return head, rows

    def __str__(self) -> str:
        head, rows = self.cells()
        sizes = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=True)).rstrip() for row in [head, *rows]]
        return "\n".join([*lines, *self.notes()])

    def notes(self) -> list[str]:
        """What a reader of the table should know, a sentence a line."""
        methods = "; ".join(dict.fromkeys(m.method for m in self.measures if m.method)) or "none: too few values"
        lines = [f"difference: {self.names[1]} less {self.names[0]}, {self.confidence:.0%} interval: {methods}"]
        if len(self.measures) > 1:
            lines.append(f"corrected: p for {plural(len(self.measures), 'comparison')} at once (Holm)")
        lines.append(f"detectable: the true difference that would be found with {POWER:.0%} probability")
        if (found := self.agreement) is not None:
            share = f"{found.same:.0%} ({found.interval[0]:.0%} .. {found.interval[1]:.0%})"
            kappas = f"Cohen's kappa {_number(found.kappa)}, Krippendorff's alpha {_number(found.alpha)}"
            lines.append(f"the same for {share} of {plural(found.n, 'trajectory')}; {kappas}; {len(self.changed)} changed")
        if any(self.only):
            lines.append(f"in no pair: {self.only[0]} of {self.names[0]}, {self.only[1]} of {self.names[1]}")
        for c in self.corrected:
            judge, people = f"{_number(c.raw)}{_span(c.raw_interval)}", f"{_number(c.people)}{_span(c.people_interval)}"
            lines.append(
                f"{c.name}: the judge alone says {judge} of {c.n_judge + c.n_people}; people say {people} of {c.n_people};"
                f" corrected by people it is {_number(c.corrected)}{_span(c.interval)} (prediction-powered)"
            )
        if self.calibration is not None:
            of = sum(one.n for one in self.calibration.bins)
            error, brier = _number(self.calibration.error), _number(self.calibration.brier)
            lines.append(f"calibration: expected error {error}, Brier score {brier}, of {of}")
        if self.people_alpha is not None:
            lines.append(f"people among each other: Krippendorff's alpha {_number(self.people_alpha)}")
        for p in self.probes:
            what = _PROBED[p.kind]
            lines.append(f"{p.side}: {what} {_number(p.value)}{_span(p.interval)}, p {_number(p.p_value)}")
        return lines

    def figure(self) -> Any:
        """A `matplotlib.figure.Figure`: a row for each measure, both sides and their difference. Raises MissingExtra (`plot`)."""
        return drawn_by("comparison_plot")(self)

    def plot(self, path: str | Path) -> None:
        """Draws `figure()` into a file: png, svg or pdf, by its suffix. Raises InvalidInput, MissingExtra, OSError."""
        save(self.figure, path)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _span(interval: Interval | None) -> str:
    return "" if interval is None else f" ({_number(interval[0])} .. {_number(interval[1])})"


def plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun[:-1]}ies" if noun.endswith("y") else f"{n} {noun}s"
