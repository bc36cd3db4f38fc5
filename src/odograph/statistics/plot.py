"""Pictures of statistics: one figure of what there is to see. Nothing is computed here."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from matplotlib.figure import Figure

from .parts import Difference, Distribution, Part

_MOST = 20  # lines of one panel
_LONG = 32  # characters of a name


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
    panels: list[Callable[[Any], None]] = []
    if len(stats.over_time) > 1:
        panels.append(lambda axes: _over_time(axes, stats))
    parts = [(p.key, p.reward) for p in stats.parts if p.reward.n]
    if parts:
        panels.append(lambda axes: _distributions(axes, parts, f"reward by {(stats.by or '').replace('_', ' ')}"))
    components = [(name, d) for name, d in stats.components.items() if d.n]
    if components:
        panels.append(lambda axes: _components(axes, components, stats.confidence))
    if stats.differences:
        panels.append(lambda axes: _differences(axes, stats))
    if not panels:
        whole = stats.whole.reward
        panels.append(lambda axes: _distributions(axes, [("all", whole)] if whole.n else [], "reward"))
    made = Figure(figsize=(9, 3.4 * len(panels)), layout="constrained")
    for axes, draw in zip(made.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        draw(axes)
    whole = stats.whole.reward
    made.suptitle(f"{stats.whole.trajectories:,} trajectories, {whole.n:,} with a reward, {whole.null:,} without")
    return made


def _over_time(axes: Any, stats: Drawn) -> None:
    when = [datetime.fromtimestamp(start / 1e9, UTC) for start, _ in stats.over_time]
    found = [d for _, d in stats.over_time]
    axes.plot(when, [d.mean for d in found], marker="o", label="mean", gid="reward-mean")
    axes.plot(when, [d.median for d in found], linestyle=":", label="median", gid="reward-median")
    sure = [(t, d.interval) for t, d in zip(when, found, strict=True) if d.interval is not None]
    if sure:
        low, high = [i[0] for _, i in sure], [i[1] for _, i in sure]
        label = f"{stats.confidence:.0%} interval of the mean (Student t)"
        axes.fill_between([t for t, _ in sure], low, high, alpha=0.2, label=label)
    axes.set(title=f"reward over time, by {stats.span}", ylabel="reward")
    axes.tick_params(axis="x", rotation=20)
    axes.legend(fontsize="small")


def _distributions(axes: Any, parts: list[tuple[str | None, Distribution]], title: str) -> None:
    shown = parts[-_MOST:]  # the last: of days and versions the newest
    boxes = [
        {
            "label": f"{_short(key)} ({d.n})",
            "whislo": d.q10,
            "q1": d.q25,
            "med": d.median,
            "q3": d.q75,
            "whishi": d.q90,
            "mean": d.mean,
        }
        for key, d in shown
    ]
    if boxes:
        axes.bxp(boxes, showfliers=False, showmeans=True)
        axes.tick_params(axis="x", rotation=20)
    more = f", the last {_MOST} of {len(parts)}" if len(parts) > _MOST else ""
    axes.set(title=f"{title} (box: quartiles, whiskers: 10 % to 90 %, triangle: mean){more}", ylabel="reward")


def _components(axes: Any, components: list[tuple[str, Distribution]], confidence: float) -> None:
    shown = components[:_MOST]
    means = [d.mean or 0.0 for _, d in shown]
    halves = [(d.interval[1] - d.interval[0]) / 2 if d.interval else 0.0 for _, d in shown]
    axes.barh(range(len(shown)), means, xerr=halves, capsize=3)
    axes.set_yticks(range(len(shown)), [f"{_short(name)} ({d.n})" for name, d in shown])
    axes.invert_yaxis()
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set(title=f"components: mean value and {confidence:.0%} interval (Student t)", xlabel="value before its weight")


def _differences(axes: Any, stats: Drawn) -> None:
    shown = sorted(stats.differences[:_MOST], key=lambda d: -d.difference)
    for row, d in enumerate(shown):
        colour = "grey" if not d.stands_out else "tab:green" if d.difference > 0 else "tab:red"
        if d.corrected is not None:
            axes.plot(d.corrected, [row, row], color=colour, linewidth=1)
        if d.interval is not None:
            axes.plot(d.interval, [row, row], color=colour, linewidth=3)
        axes.plot([d.difference], [row], marker="o", color=colour)
    axes.set_yticks(range(len(shown)), [_named(d) for d in shown])
    axes.invert_yaxis()
    axes.axvline(0, color="grey", linewidth=0.8)
    more = f", {_MOST} of {len(stats.differences)}" if len(stats.differences) > _MOST else ""
    sure = f"thick: {stats.confidence:.0%} (Welch t), thin: of all at once (Bonferroni)"
    axes.set(
        title=f"what goes with high and low reward (coloured: stands out){more}",
        xlabel=f"mean reward with less mean reward without; {sure}",
    )


def _named(d: Difference) -> str:
    return f"{d.kind} {_short(d.name)} ({d.n_with})"


def _short(name: str | None) -> str:
    """A name as a label: what agents wrote is neither markup ($ begins mathematics) nor a control character."""
    text = "-" if name is None else "".join(c if unicodedata.category(c)[0] != "C" else "?" for c in name)
    return (text if len(text) <= _LONG else text[: _LONG - 1] + "…").replace("$", r"\$")
