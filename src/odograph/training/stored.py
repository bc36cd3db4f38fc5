"""Exports and dry runs of a store: what filters choose; where a format needs it, trajectories of a group one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from .. import clusters
from ..errors import did_you_mean
from ..groups import Groups, together, wants_running
from ..store.backend import Backend
from ..store.filters import FILTERS, FilterArgs, Filters, given
from ..store.reader import Reader
from ..store.summary import Summary
from ..trajectory import Trajectory
from .dry_run import GroupPlan, dry_run
from .export import export
from .feed import Feed
from .formats import Target, find


def export_store(
    store: Backend,
    out: str | Path,
    to: str,
    filters_and_options: Mapping[str, Any],
    *,
    options: Mapping[str, Any] | None,
    groups: Groups | None,
    runner: clusters.Runner | None,
    **how: Any,
) -> dict[str, Any]:
    """`Store.export`. `how` is for `export`."""
    asked = {k: v for k, v in filters_and_options.items() if k in FILTERS}
    more = {k: v for k, v in filters_and_options.items() if k not in FILTERS}
    target = find(to)
    known = target.options
    for name in more if known is not None else ():
        if name not in (known or ()):
            there = ", ".join(known or ()) or "none"
            raise TypeError(
                f"no filter or option {name!r}; the filters are {', '.join(FILTERS)}, the options of {to} {there}"
                f"{did_you_mean(name, (*FILTERS, *(known or ())))}"
            )
    filters, reader = Filters.of(asked), store.reader
    compared = filters if groups is None else Filters.of(groups.asked)
    feed = Feed(target, _with_running(target, compared) | more | dict(options or {}), parent=reader.known)
    if runner is not None:
        clusters.check_runner(runner)
    asked = dict(given(cast(FilterArgs, asked)))
    found: Iterator[Trajectory]
    if groups is not None:
        if asked:
            raise TypeError(f"with groups=, {next(iter(asked))}= goes to store.groups(...)")
        asked, found = groups.asked, groups.trajectories()
    elif runner == "ray":
        summaries = reader.summaries(filters)
        found = clusters.trajectories(store.place, reader, _ids(summaries) if feed.takes_groups else (s.id for s in summaries))
    else:
        found = _by_group(reader, filters) if feed.takes_groups else reader.trajectories(filters)
    return export(found, out, feed, asked=asked, groups=groups, grouped=True, **how)


def dry_run_store(store: Backend, to: str, filters: Filters, options: Mapping[str, Any] | None) -> Iterator[GroupPlan]:
    """`Store.dry_run`."""
    more = _with_running(find(to), filters) | dict(options or {})
    return dry_run(_by_group(store.reader, filters), to, parent=store.reader.known, **more)


def _by_group(reader: Reader, filters: Filters) -> Iterator[Trajectory]:
    """Trajectories, those of a group one after the other; the groups in the order of their first."""
    return reader.read(_ids(reader.summaries(filters)))


def _ids(summaries: Iterable[Summary]) -> Iterator[str]:
    for group in together(((s.id, s.group) for s in summaries), lambda one: one[1]):
        yield from (id for id, _ in group)


def _with_running(target: Target, filters: Filters) -> dict[str, Any]:
    """The option by which running trajectories are compared, where a filter asks for them."""
    return {"include_running": True} if target.of_samples and wants_running(filters) else {}
