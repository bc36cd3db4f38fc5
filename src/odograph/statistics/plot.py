"""Pictures of statistics: one figure of what there is to see. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from .lettering import cut, lettered, plain
from .parts import Difference, Distribution, Part

_MOST = 20  # lines of one panel
_ROW = 0.3  # inches of a line
_FEW = 10  # values fewer than these are drawn each
_BLUE, _GREY, _GREEN, _RED = "#2b6cb0", "#8a8f98", "#2f855a", "#c53030"


class Drawn(Protocol):
    """What is drawn of a `Stats`."""

    @property
    def by(self) -> str | None: ...
    @property
    def confidence(self) -> float: ...
    @property
    def whole(self) -> Part: ...
    @property
    def parts(self) -> list[Part]: ...
    @property
    def components(self) -> dict[str, Distribution]: ...
    @property
    def over_time(self) -> list[tuple[int, Distribution]]: ...
    @property
    def span(self) -> str | None: ...
    @property
    def differences(self) -> list[Difference]: ...


def figure(stats: Drawn) -> Any:
    """A figure with a panel for each of: rewards over time, by part, by component, with and without what was done."""
    panels: list[tuple[float, Callable[[Any], None]]] = []
    if len(stats.over_time) > 1:
        panels.append((2.4, lambda axes: _over_time(axes, stats)))
    parts = [(p.key, p.reward) for p in stats.parts if p.reward.n]
    if parts:
        shown = parts[-_MOST:]  # the last: of days and versions the newest
        title = f"Reward by {(stats.by or '').replace('_', ' ')}{_more(len(parts), 'the last ')}"
        panels.append((_ROW * len(shown), lambda axes: _distributions(axes, shown, title, "reward")))
    components = [(name, d) for name, d in stats.components.items() if d.n]
    if components and not (len(components) == 1 and not stats.differences and parts):
        first = components[:_MOST]
        named = f"Components of the reward, before their weights{_more(len(components))}"
        panels.append((_ROW * len(first), lambda axes: _distributions(axes, first, named, "value")))
    if stats.differences:
        panels.append((_ROW * min(len(stats.differences), _MOST), lambda axes: _differences(axes, stats)))
    whole = stats.whole.reward
    if not panels:
        panels.append((_ROW, lambda axes: _distributions(axes, [("all", whole)] if whole.n else [], "Reward", "reward")))
    heights = [max(0.6, inches) + 1.1 for inches, _ in panels]
    made = Figure(figsize=(9, sum(heights) + 0.9), layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.12))
    every = made.subplots(len(panels), squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axes, (_, draw) in zip(every, panels, strict=True):
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
    without = f", {whole.null:,} without" if whole.null else ""
    count = stats.whole.trajectories
    title = f"{count:,} trajector{'y' if count == 1 else 'ies'}, {whole.n:,} with a reward{without}"
    made.suptitle(title, fontsize="large", weight="bold")
    methods = dict.fromkeys(d.method for d in (whole, *(d for _, d in parts), *(d for _, d in components)) if d.method)
    legend = f"Dot: mean. Line: its {stats.confidence:.0%} interval ({'; '.join(methods) or 'none: too few values'}).\n"
    legend += "Pale bar: the middle half of values that are not two-valued. Pale dots: the values, where fewer than ten."
    made.supxlabel(legend, fontsize="small", color=_GREY)
    return made


def _more(n: int, which: str = "") -> str:
    return f" ({which}{_MOST} of {n})" if n > _MOST else ""


def _over_time(axes: Any, stats: Drawn) -> None:
    when = [datetime.fromtimestamp(start / 1e9, UTC) for start, _ in stats.over_time]
    found = [d for _, d in stats.over_time]
    axes.plot(when, [d.mean for d in found], color=_BLUE, linewidth=1, alpha=0.5, marker="o", markersize=5, gid="reward-mean")
    for time, d in zip(when, found, strict=True):
        if d.interval is not None:
            axes.plot([time, time], d.interval, color=_BLUE, linewidth=1.5)
        if d.values is not None and d.n > 1:
            axes.plot([time] * d.n, d.values, color=_BLUE, alpha=0.25, marker="o", markersize=4, linestyle="none")
    if max(d.n for d in found) > 0:
        axes.set(ylabel="reward")
    axes.set_title(f"Mean reward by {stats.span} (UTC), newest on the right", loc="left", fontsize="medium")
    axes.grid(axis="y", alpha=0.2)
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _distributions(axes: Any, shown: Sequence[tuple[str | None, Distribution]], title: str, what: str) -> None:
    """A line for each: the mean and its interval over the middle half of the values, or over the values where they are few."""
    axes.use_sticky_edges = False
    if not shown:
        axes.annotate("no reward is known", (0.5, 0.5), xycoords="axes fraction", ha="center", color=_GREY)
    for row, (_, d) in enumerate(shown):
        if d.values is not None:
            axes.plot(d.values, _apart(d.values, row), color=_BLUE, alpha=0.3, marker="o", markersize=5, linestyle="none")
        elif d.q25 is not None and d.q75 is not None and not _two_valued(d):
            axes.barh(row, d.q75 - d.q25, left=d.q25, height=0.5, color=_BLUE, alpha=0.2, linewidth=0)
        if d.interval is not None:
            axes.plot(d.interval, [row, row], color=_BLUE, linewidth=2, solid_capstyle="butt")
        axes.plot([d.mean], [row], color=_BLUE, marker="o", markersize=6, gid="mean")
    _rows(axes, [(name, f"n = {d.n:,}") for name, d in shown])
    if all((d.min or 0.0) >= 0.0 and (d.max or 0.0) <= 1.0 for _, d in shown):
        axes.set_xlim(-0.03, 1.03)  # of one value too it is seen where in the range it is
        axes.set_xticks([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.set_title(title, loc="left", fontsize="medium")
    axes.set_xlabel(what)


def _two_valued(d: Distribution) -> bool:
    return d.method is not None and d.method.startswith("Wilson score") and "bounded" not in d.method


def _apart(values: list[float], row: int) -> list[float]:
    """Heights for values on a line, so that equal ones are seen beside each other."""
    seen: dict[float, int] = {}
    heights = []
    for value in values:
        place = seen[value] = seen.get(value, -1) + 1
        heights.append(row + 0.09 * ((place + 1) // 2) * (1 if place % 2 else -1))
    return heights


def _differences(axes: Any, stats: Drawn) -> None:
    shown = sorted(stats.differences[:_MOST], key=lambda d: -d.difference)
    for row, d in enumerate(shown):
        colour = _GREY if not d.stands_out else _GREEN if d.difference > 0 else _RED
        if d.corrected is not None:
            axes.plot(d.corrected, [row, row], color=colour, linewidth=1)
        if d.interval is not None:
            axes.plot(d.interval, [row, row], color=colour, linewidth=3, solid_capstyle="butt")
        axes.plot([d.difference], [row], marker="o", color=colour, fillstyle="full" if d.tasks else "none")
    _rows(axes, [(f"{d.kind} {d.name}", f"{d.n_with:,} with, {d.n_without:,} without") for d in shown])
    axes.axvline(0, color=_GREY, linewidth=0.8)
    axes.locator_params(axis="x", nbins=6)
    axes.set_title(f"What goes with high and low reward{_more(len(stats.differences))}", loc="left", fontsize="medium")
    axes.set_xlabel(
        f"reward with it less reward without it, within tasks. Thick: {stats.confidence:.0%} interval; thin: of all at once.\n"
        "Coloured: stands out. Hollow: can only be compared across tasks."
    )
    axes.xaxis.label.set_size("small")


def _rows(axes: Any, named: list[tuple[str | None, str]]) -> None:
    """A name at the left of each line, its count at the right."""
    axes.set_yticks(range(len(named)), [cut(plain(name)) for name, _ in named])
    lettered(axes.get_yticklabels())
    axes.set_ylim(len(named) - 0.5, -0.5)
    for row, (_, count) in enumerate(named):
        axes.annotate(count, (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize="small", color=_GREY)
    axes.grid(axis="x", alpha=0.2)
    axes.tick_params(axis="y", length=0)
