"""The verdict of a benchmark on a run, where it stands in a file of its own: the reports of SWE-bench beside the trajectories.

The harness writes a `report.json` for each instance (`{INSTANCE: {"resolved": true}}`) and one for a run, with lists of instances
(`resolved_ids`, `unresolved_ids`; `resolved`, `generated` and others in older versions; `results.json` of SWE-agent's).

Source: princeton-nlp/SWE-bench, `swebench.harness.reporting`, and the layout of SWE-bench/experiments.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..codec import loads
from ..errors import InvalidInput
from ..shape import items, obj
from ..types import Reward

_INSTANCE = re.compile(r"\w[\w.+-]*")
_NAMES = ("report.json", "results.json")
_RESOLVED = ("resolved_ids", "resolved")
_MOST = 64 * 1024 * 1024  # bytes: a report of all instances with their tests has a few MB


def verdict(path: Path, instance: str | None) -> Reward | None:
    """Whether the instance of a trajectory's file was resolved, as the nearest report says that knows it. None: none knows it."""
    if not instance or not _INSTANCE.fullmatch(instance):  # it names a folder
        return None
    here, above = path.absolute().parent, path.absolute().parent.parent
    folders = (here, above / "logs" / instance, here / "logs" / instance, above, above / "results")
    for file in (folder / name for folder in folders for name in _NAMES):
        try:
            about = file.stat()
        except OSError:
            continue
        if file.is_file() and about.st_size <= _MOST:
            value = _said(_report(file, about.st_mtime_ns), instance)
            if value is not None:
                return Reward(name="resolved", value=float(value), source="environment", extra={"file": file.name})
    return None


def _said(report: dict[str, Any], instance: str) -> bool | None:
    own = obj(report.get(instance)).get("resolved")
    if isinstance(own, bool):
        return own
    if any(instance in items(report.get(name)) for name in _RESOLVED):
        return True
    counted = isinstance(report.get(_RESOLVED[0]), list) or isinstance(report.get(_RESOLVED[1]), list)
    return False if counted and any(instance in items(given) for given in report.values()) else None


@lru_cache(maxsize=8)
def _report(file: Path, _changed: int) -> dict[str, Any]:
    try:
        return obj(loads(file.read_bytes()))
    except (OSError, InvalidInput):
        return {}
