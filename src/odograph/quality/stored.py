"""Running checks over the trajectories of a store: in this process, in several, or on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .. import clusters
from ..errors import InvalidInput, check_count
from ..processes import over
from ..store.backend import Backend
from ..store.filters import FILTERS, Filters
from .checking import Checker, begin, collect
from .damage import damage_findings
from .define import Profile
from .report import Report

_MOST_FINDINGS = 10_000
_BATCH = 50  # trajectories that a process checks at once
_FEW = 500  # trajectories that are checked sooner than processes are started


def validate_store(
    store: Backend,
    filters: Filters,
    profile: Profile,
    ignore: Iterable[str],
    tokenizer: Any,
    checks: Iterable[Any],
    *,
    workers: int | None,
    runner: clusters.Runner | None,
    progress: Callable[[int], None] | None,
) -> Report:
    """`Store.validate`."""
    more = [checks] if isinstance(checks, str) else list(checks)
    checker = Checker(profile, ignore, tokenizer, more)
    if workers is not None:
        check_count("workers", workers)
    if runner is not None:
        clusters.check_runner(runner)
    named = (tokenizer is None or isinstance(tokenizer, (str, Path))) and all(isinstance(one, str) for one in more)
    if runner == "ray" and not named:
        raise InvalidInput("with runner='ray', the tokenizer and the checks are given by name or file, not as objects")
    reader = store.reader
    asked = {name for name in FILTERS if getattr(filters, name) is not None}
    if not named:  # objects of this process
        workers = 1
    elif workers is None:
        workers = 1 if reader.count(filters) < _FEW else min(os.cpu_count() or 1, 8)
    if workers > 1 or runner == "ray":
        ids = (summary.id for summary in reader.summaries(filters))
        about = (profile, sorted(checker.skip), None if tokenizer is None else str(tokenizer), more)
        work: dict[str, Any] = {"begin": begin, "about": about, "ids": ids, "batch": _BATCH, "doing": "checked trajectories"}
        batches = clusters.over(store.place, reader, **work) if runner == "ray" else over(store.place, count=workers, **work)
        found = (one for batch in batches for one in batch)
    else:
        found = (checker.one(t) for t in reader.trajectories(filters))
    report = collect(found, checker, across=True, whole=asked <= {"group"}, most=_MOST_FINDINGS, progress=progress)
    if not asked:
        report.add(damage_findings(reader.damages()), checker.skip)
    return report
