"""Pictures of comparisons: both sides and their difference, a row for each measure. Nothing is computed here."""

from __future__ import annotations

from typing import Any, Protocol

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from .agreement import Confusion
from .lettering import cut, lettered, plain
from .parts import Distribution

_COSTS = ("steps", "tokens", "seconds")  # what is no share
_MOST = 12  # measures, and labels of a matrix
_BLUE, _ORANGE, _GREY, _DARK = "#2b6cb0", "#c05621", "#8a8f98", "#1a202c"


class DrawnMeasure(Protocol):
    """What is drawn of a `Measure`."""

    @property
    def name(self) -> str: ...
    @property
    def a(self) -> Distribution: ...
    @property
    def b(self) -> Distribution: ...
    @property
    def difference(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float] | None: ...
    @property
    def corrected(self) -> float: ...
    @property
    def pairs(self) -> int: ...
    @property
    def unit(self) -> str: ...


class DrawnAgreement(Protocol):
    """What is drawn of an `Agreement`."""

    @property
    def n(self) -> int: ...
    @property
    def kappa(self) -> float | None: ...
    @property
    def confusion(self) -> Confusion | None: ...


class Drawn(Protocol):
    """What is drawn of a `Compared`."""

    @property
    def names(self) -> tuple[str, str]: ...
    @property
    def confidence(self) -> float: ...
    @property
    def measures(self) -> list[Any]: ...
    @property
    def agreement(self) -> DrawnAgreement | None: ...


def figure(compared: Drawn) -> Any:
    """On the left both sides, on the right their difference; below, where labels were compared, which became which."""
    shown: list[DrawnMeasure] = compared.measures[:_MOST]
    matrix = compared.agreement.confusion if compared.agreement is not None else None
    matrix = matrix if matrix is not None and len(matrix.labels) <= _MOST else None
    size = 0.9 + 0.42 * len(matrix.labels) if matrix is not None else 0.0
    heights = [1.15] * len(shown) + ([size + 0.6] if matrix is not None else [])
    made = Figure(figsize=(9, sum(heights) + 1.4), layout=ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.1))
    grid = made.add_gridspec(len(heights), 2, height_ratios=heights, width_ratios=[3, 2])
    for row, m in enumerate(shown):
        left, right = made.add_subplot(grid[row, 0]), made.add_subplot(grid[row, 1])
        _both(left, m, compared.names)
        _difference(right, m)
        if row == 0:
            right.set_title(
                f"{_short(compared.names[1])} less {_short(compared.names[0])}", fontsize="medium", parse_math=False, pad=20
            )
            left.set_title("mean, and its interval", fontsize="medium", pad=20)
            lettered([right.title])
    if matrix is not None and compared.agreement is not None:
        _matrix(made.add_subplot(grid[len(shown), 0]), matrix, compared)
    title = made.suptitle(f"{_short(compared.names[0])} and {_short(compared.names[1])}", weight="bold", fontsize="large")
    lettered([title])
    more = f"The first {_MOST} of {len(compared.measures)} measures. " if len(compared.measures) > _MOST else ""
    made.supxlabel(
        f"{more}Lines: {compared.confidence:.0%} intervals. p is corrected for all {len(compared.measures)} comparisons (Holm)."
        if len(compared.measures) > 1
        else f"Lines: {compared.confidence:.0%} intervals.",
        fontsize="small",
        color=_GREY,
    )
    return made


def _short(name: str) -> str:
    return cut(plain(name), 28)


def _both(axes: Any, m: DrawnMeasure, names: tuple[str, str]) -> None:
    for row, (side, colour) in enumerate(((m.a, _BLUE), (m.b, _ORANGE))):
        if side.values is not None:
            axes.plot(side.values, [row] * side.n, color=colour, alpha=0.25, marker="o", markersize=4, linestyle="none")
        if side.interval is not None:
            axes.plot(side.interval, [row, row], color=colour, linewidth=2.5, solid_capstyle="butt")
        axes.plot([side.mean], [row], color=colour, marker="o", markersize=7, gid="mean")
        text = f"{side.mean:.3g}  (n = {side.n:,})"
        axes.annotate(text, (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize="small", color=colour)
    axes.set_yticks([0, 1], [_short(name) for name in names], fontsize="small")
    axes.set_ylim(1.6, -0.6)
    axes.set_ylabel(cut(plain(m.name), 24), rotation=0, ha="right", va="center", weight="bold", parse_math=False)
    lettered([*axes.get_yticklabels(), axes.yaxis.label])
    if m.name not in _COSTS and all(
        d.min is not None and d.max is not None and d.min >= 0.0 and d.max <= 1.0 for d in (m.a, m.b)
    ):
        axes.set_xlim(-0.03, 1.03)
        axes.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0])
    else:
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter("{x:.4g}")
    _bare(axes)


def _difference(axes: Any, m: DrawnMeasure) -> None:
    axes.axvline(0, color=_GREY, linewidth=0.8)
    if m.interval is not None:
        axes.plot(m.interval, [0, 0], color=_DARK, linewidth=2.5, solid_capstyle="butt")
    axes.plot([m.difference], [0], color=_DARK, marker="D", markersize=6, gid="difference")
    p = "p < 0.001" if m.corrected < 0.001 else f"p = {m.corrected:.2g}"
    pairs = f", {m.pairs:,} pair{'' if m.pairs == 1 else 's'}" if m.pairs else ""
    text = f"{m.difference:+.3g}, {p}{pairs}"
    axes.annotate(text, (0.5, 1.0), xycoords="axes fraction", ha="center", va="bottom", fontsize="small", color=_DARK)
    axes.set_ylim(-0.8, 0.8)
    axes.set_yticks([])
    axes.margins(x=0.15)
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter("{x:.4g}")
    _bare(axes)
    axes.spines["left"].set_visible(False)


def _bare(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize="small")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.2)


def _matrix(axes: Any, matrix: Confusion, compared: Drawn) -> None:
    """Which label of the one side is which of the other: what both say alike stands on the diagonal."""
    most = max(max(row) for row in matrix.counts) or 1
    axes.imshow(matrix.counts, cmap="Blues", vmin=0, vmax=most * 1.4, aspect="auto")
    for i, row in enumerate(matrix.counts):
        for j, count in enumerate(row):
            axes.text(
                j, i, f"{count:,}", ha="center", va="center", color=_DARK if count < most * 0.8 else "white", fontsize="small"
            )
    labels = [cut(plain(str(label)), 16) for label in matrix.labels]
    axes.set_xticks(
        range(len(labels)),
        labels,
        fontsize="small",
        rotation=30 if len(labels) > 3 else 0,
        ha="right" if len(labels) > 3 else "center",
    )
    axes.set_yticks(range(len(labels)), labels, fontsize="small")
    axes.set_xlabel(_short(compared.names[1]), parse_math=False)
    axes.set_ylabel(_short(compared.names[0]), parse_math=False)
    kappa = compared.agreement.kappa if compared.agreement is not None else None
    axes.set_title("which became which" + (f" (Cohen's kappa {kappa:.2f})" if kappa is not None else ""), fontsize="medium")
    lettered([*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label])
