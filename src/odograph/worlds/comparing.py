"""Comparing two worlds, such as a world and its fork: the labels that both have of the same trajectories."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from ..errors import InvalidInput, NotFound, did_you_mean
from ..labels import version_of
from ..statistics.compared import Compared
from ..statistics.labelled import compare_said
from ..statistics.said import Said
from ..store.backend import Place
from .components import Label, Trajectory
from .places import StorageConfig
from .runtime import SyncWorldRuntime

_COLUMNS = ("technique", "description", "value", "score", "rationale", "model", "status")


def compare_worlds(
    place: Place,
    a: str,
    b: str,
    *,
    namespace: str = "default",
    technique: str | None = None,
    ids: Collection[str] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Compared:
    """Compares the labels of two worlds of a store, by trajectory and technique. `technique`: labels of this one; `ids`: of these
    trajectories. Raises InvalidInput, NotFound, MissingExtra."""
    storage = StorageConfig(place, namespace)
    with SyncWorldRuntime() as runtime:
        there = runtime.discover(storage)
        sides = []
        for name in (a, b):
            if name not in there:
                known = ", ".join(there) or "none"
                raise NotFound(f"no world {name!r} in namespace {namespace!r}; there are: {known}{did_you_mean(name, there)}")
            sides.append([one for one in said_in_world(runtime.world(name, storage)) if ids is None or one.trajectory in ids])
    techniques = {one.technique for side in sides for one in side}
    if technique is not None and technique not in techniques:
        known = ", ".join(sorted(techniques)) or "none"
        raise InvalidInput(
            f"no label of technique {technique!r}; there are: {known}{did_you_mean(technique, sorted(techniques))}"
        )
    if technique is not None:
        sides = [[one for one in side if one.technique == technique] for side in sides]
    elif any(len({one.technique for one in side}) > 1 for side in sides):  # a pair is of one trajectory and one technique
        sides = [[msgspec.structs.replace(o, trajectory=f"{o.trajectory} {o.technique}") for o in side] for side in sides]
    for name, side in zip((a, b), sides, strict=True):
        if not side:
            raise InvalidInput(f"there is nothing to compare: world {name!r} has no labels")
    return compare_said(sides[0], sides[1], names=(a, b), by="world", confidence=confidence, seed=seed)


def said_in_world(world: Any) -> list[Said]:
    """The labels of a world's state; those of an earlier version of a rubric are left out."""
    frame = world.query(Trajectory, Label)
    found = []
    for row in frame.select("trajectory__trajectory_id", *(f"label__{n}" for n in _COLUMNS)).to_pylist():
        about = {name: row[f"label__{name}"] for name in _COLUMNS}
        if about["status"] == "ok":
            version = version_of(about["technique"] or "", about["description"] or "")
            more = {name: about[name] for name in ("technique", "value", "score", "rationale", "description")}
            found.append(Said(trajectory=row["trajectory__trajectory_id"], author=about["model"], version=version, **more))
    return found
