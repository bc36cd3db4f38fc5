"""What turns the rows of a tick into the next ones: the protocol of processors, and sampling and scoring of labels."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from ..errors import InvalidInput, check_count
from ..statistics.intervals import mean_interval
from ..tables.schema import arrow
from .components import Component, Label, Trajectory
from .events import Resources

_ID = "trajectory__trajectory_id"


class AsyncProcessor:
    """A processor: which components it needs, when it runs (ascending `priority`), and what it makes of the frame.

        class Cheer(AsyncProcessor):
            components = (Mood,)
            priority = 15

            async def process(self, df, resources=None, **kwargs):
                return df.with_column("mood__score", daft.col("mood__score") + 0.1)

    `df` is a Daft frame with all rows of one archetype. The frame that comes back has the same entities, each once, and the same
    columns. Any object with these three members is a processor; `process` may be a plain function.
    """

    components: ClassVar[tuple[type[Component], ...]] = ()
    priority: ClassVar[int] = 0
    #: Whether the frame may have hashes in the place of shared texts (`Component.shared`), which then are not read.
    hashes: ClassVar[bool] = False

    async def process(self, df: Any, resources: Resources | None = None, **kwargs: Any) -> Any:
        raise NotImplementedError


@dataclass
class SamplingConfig:
    """Which trajectories are labelled. 0 and None: no limit. `max_trajectories` counts the eligible ones.

    `strategy`: "first" (in the order of their ids), "random", or "stratified" (the same share of each value of `stratify_by`, a
    column such as "trajectory__source" or "trajectory__outcome"), or "active" (where judges or repeats disagreed most; without a
    limit all where they did). All but the first draw with `seed`.

    `until`: each step adds `batch` trajectories, in an order drawn with `seed`, until the 95 % interval of each technique's mean
    score is no wider than `until` on either side; later steps add none.
    """

    max_trajectories: int = 0
    min_turns: int = 0
    max_turns: int = 0
    require_tags: list[str] | None = None
    exclude_tags: list[str] | None = None
    outcome_filter: str | None = None
    strategy: str = "first"
    stratify_by: str = "trajectory__source"
    seed: int = 0
    until: float = 0.0
    batch: int = 20

    def __post_init__(self) -> None:
        for name in ("max_trajectories", "min_turns", "max_turns", "seed"):
            value = getattr(self, name)
            if type(value) is not int or (value < 0 and name != "seed"):
                raise InvalidInput(f"{name} is a whole number from 0, not {value!r}")
        if self.strategy not in ("first", "random", "stratified", "active"):
            raise InvalidInput(f"strategy is first, random, stratified or active, not {self.strategy!r}")
        for name in ("require_tags", "exclude_tags"):
            tags = getattr(self, name)
            if tags is not None and not (isinstance(tags, (list, tuple)) and all(isinstance(tag, str) for tag in tags)):
                raise InvalidInput(f"{name} is a list of tags, not {tags!r:.100}")
        if self.outcome_filter is not None and not isinstance(self.outcome_filter, str):
            raise InvalidInput(f"outcome_filter is a text, not {self.outcome_filter!r:.100}")
        check_count("batch", self.batch)
        if isinstance(self.until, bool) or not isinstance(self.until, (int, float)) or not 0 <= self.until < math.inf:
            raise InvalidInput(f"until is half the width of an interval of scores, 0.05 say, not {self.until!r}")


class SamplingProcessor(AsyncProcessor):
    """Marks which trajectories are labelled (`label__sampled`) by the resource SamplingConfig. Never drops a row."""

    components = (Trajectory, Label)
    priority = 10
    hashes = True

    async def process(self, df: Any, resources: Resources | None = None, **kwargs: Any) -> Any:
        config = (resources.get(SamplingConfig) if resources is not None else None) or SamplingConfig()
        rows = df.to_arrow()
        chosen = sampled(rows, config)
        ids = rows.column("trajectory__trajectory_id").to_pylist()
        return with_columns(rows, {"label__sampled": [id in chosen for id in ids]})


def sampled(rows: Any, config: SamplingConfig) -> set[str | None]:
    """The ids of the trajectories that a config chooses among rows."""
    names = [_ID, "trajectory__total_turns", "trajectory__outcome", "trajectory__tags_json"]
    strata = config.stratify_by if config.strategy == "stratified" else "trajectory__source"
    if strata not in rows.column_names:
        raise InvalidInput(f"no column {strata!r} to stratify by; there are: {', '.join(rows.column_names)}")
    eligible: dict[str | None, Any] = {}
    for id, turns, outcome, tags, stratum in zip(*(rows.column(n).to_pylist() for n in (*names, strata)), strict=True):
        if id not in eligible and _is_eligible(config, turns or 0, outcome or "", _tags(tags)):
            eligible[id] = stratum
    ids = sorted(eligible, key=lambda id: (id is not None, id))
    chance = random.Random(config.seed)
    if config.until:
        return set(_until(config, rows, chance.sample(ids, len(ids))))
    most = config.max_trajectories
    if config.strategy == "active":
        apart = _apart(rows)
        ids = sorted(chance.sample(ids, len(ids)), key=lambda id: -apart.get(id, 0.0))
        return set(ids[:most] if most else [id for id in ids if apart.get(id)])
    if not most or len(ids) <= most:
        return set(ids)
    if config.strategy == "first":
        return set(ids[:most])
    if config.strategy == "random":
        return set(chance.sample(ids, most))
    return set(_stratified(ids, eligible, most, chance))


def _apart(rows: Any) -> dict[Any, float]:
    """How far judges were apart over each trajectory, by any technique."""
    found: dict[Any, float] = {}
    for id, apart in zip(*(rows.column(n).to_pylist() for n in (_ID, "label__disagreement")), strict=True):
        found[id] = max(found.get(id, 0.0), apart or 0.0)
    return found


def _until(config: SamplingConfig, rows: Any, ids: list[Any]) -> list[Any]:
    """Those that were labelled, in the order of `ids`, and the next batch where an interval is too wide yet."""
    scores: dict[Any, list[float]] = {}
    waiting = set()
    columns = (_ID, "label__technique", "label__status", "label__score")
    for id, technique, status, score in zip(*(rows.column(n).to_pylist() for n in columns), strict=True):
        if not status or status == "skipped":
            waiting.add(id)
        elif score is not None:
            scores.setdefault(technique, []).append(score)
        else:
            scores.setdefault(technique, [])
    done = next((n for n, id in enumerate(ids) if id in waiting), len(ids))
    halves = [_half(found) for found in scores.values()]
    more = 0 if done and halves and max(halves) <= config.until else config.batch
    return ids[: min(done + more, config.max_trajectories or len(ids))]


def _half(scores: list[float]) -> float:
    """Half the width of the 95 % interval of the mean."""
    found = mean_interval(scores, 0.95)
    return math.inf if found is None or found[2] is None else (found[2][1] - found[2][0]) / 2


def _stratified(ids: list[Any], stratum_of: dict[Any, Any], most: int, chance: random.Random) -> list[Any]:
    """The same share of each stratum; what rounding leaves over goes to those that lost most by it."""
    strata: dict[Any, list[Any]] = {}
    for id in ids:
        strata.setdefault(stratum_of[id], []).append(id)
    shares = {s: len(members) * most / len(ids) for s, members in strata.items()}
    counts = {s: int(share) for s, share in shares.items()}
    for s in sorted(shares, key=lambda s: (counts[s] - shares[s], repr(s)))[: most - sum(counts.values())]:
        counts[s] += 1
    return [id for s, members in strata.items() for id in chance.sample(members, counts[s])]


def _is_eligible(config: SamplingConfig, turns: int, outcome: str, tags: list[str]) -> bool:
    if turns < config.min_turns or (config.max_turns and turns > config.max_turns):
        return False
    if config.require_tags and not set(config.require_tags) <= set(tags):
        return False
    if config.exclude_tags and set(config.exclude_tags) & set(tags):
        return False
    return config.outcome_filter is None or config.outcome_filter in outcome


def _tags(text: str | None) -> list[str]:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return [t for t in found if isinstance(t, str)] if isinstance(found, list) else []


class ScoringProcessor(AsyncProcessor):
    """Clamps `label__score` to [0, 1]. A score that is not known stays so, and NaN becomes not known."""

    components = (Label,)
    priority = 30
    hashes = True

    async def process(self, df: Any, resources: Resources | None = None, **kwargs: Any) -> Any:
        rows = df.to_arrow()
        scores = rows.column("label__score").to_pylist()
        clamped = [None if s is None or s != s else min(1.0, max(0.0, s)) for s in scores]
        return with_columns(rows, {"label__score": clamped})


def with_columns(rows: Any, columns: dict[str, list[Any]]) -> Any:
    """A Daft frame of Arrow rows in which some columns have other values."""
    pa, daft = arrow(), _daft()
    for name, values in columns.items():
        index = rows.column_names.index(name)
        rows = rows.set_column(index, name, pa.array(values, rows.schema.field(name).type))
    return daft.from_arrow(rows)


@cache
def _daft() -> Any:
    from ..errors import MissingExtra

    try:
        import daft
    except ImportError:
        raise MissingExtra("a world", "worlds") from None
    pa = arrow()
    # Daft frees Arrow's buffers on threads of its own. With pyarrow's mimalloc (25.0) the process dies of that once the thread
    # that made the buffers is gone; malloc does not mind.
    if pa.default_memory_pool().backend_name == "mimalloc":
        pa.set_memory_pool(pa.system_memory_pool())
    return daft
