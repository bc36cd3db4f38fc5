"""Labels a store's trajectories by a rubric: draws the sample, says the cost, asks, and writes the labels back.

A rubric has one world in the store, named after its technique, so a run goes on where an earlier one stopped. Answers are kept
before they are read: a run that was killed pays for none of them again.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, Unpack

import msgspec

from ..asking.budget import Budget
from ..errors import InvalidInput
from ..store.backend import Place
from ..store.filters import FilterArgs
from .components import Label, Trajectory
from .events import Resources
from .labelling import LabelingProcessor
from .people import LabelStore, chosen
from .places import StorageConfig
from .processors import AsyncProcessor, ScoringProcessor, with_columns
from .rubrics import Rubric
from .runtime import SyncWorld, SyncWorldRuntime
from .sessions import WrittenBack
from .settings import LabelingConfig
from .storage import WorldError

#: The namespace of the worlds that label by rubric files.
NAMESPACE = "rubrics"
_BATCH = 500  # trajectories that are read at once


class Reading(Protocol):
    """Where a store is, and what reads many of its trajectories."""

    @property
    def here(self) -> Place: ...
    def beside(self, name: str) -> Path: ...
    @property
    def sink(self) -> Any: ...
    @property
    def reader(self) -> Any: ...


class ScannedStore(LabelStore, Protocol):
    """The store that is labelled."""

    @property
    def backend(self) -> Reading: ...


class Scan(msgspec.Struct, kw_only=True):
    """What a labelling by a rubric did, or with `dry_run` would do."""

    technique: str
    #: The version of the rubric: a hash of its content.
    version: str
    trajectories: int
    #: Rows to ask, calls, tokens and cost, as counted before anything was asked.
    estimate: dict[str, float]
    dry_run: bool
    #: Labels of this version, by status.
    statuses: dict[str, int] = {}
    values: dict[str, int] = {}
    score: float | None = None
    #: Labels of earlier versions of the rubric, in the world: what they say is stale.
    stale: int = 0
    spent: dict[str, float] = {}
    #: Answers that the journal had, which were paid before.
    from_journal: int = 0
    evidence_dropped: int = 0
    written: WrittenBack = msgspec.field(default_factory=WrittenBack)
    #: The first of the labels that failed.
    failed: list[dict[str, Any]] = []

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what `odograph label --json` prints."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def scan(
    store: ScannedStore,
    rubric: Rubric,
    *,
    sample: int | None = None,
    seed: int | None = None,
    models: Sequence[str] = (),
    config: LabelingConfig | None = None,
    dry_run: bool = False,
    rewards: bool = False,
    weight: float = 1.0,
    on_estimate: Callable[[dict[str, float]], None] | None = None,
    **filters: Unpack[FilterArgs],
) -> Scan:
    """Labels a sample of a store's trajectories by a rubric, and writes the labels back as `label` records.

    `sample`, `seed`, `models` and `config` override what the rubric says. `rewards`: the scores become rewards, too, with
    `weight`. `on_estimate` is told the cost before anything is asked. Raises InvalidInput, MissingExtra, StoreError.
    """
    config = config or rubric.config()
    if config.budget is None:
        config.budget = Budget()
    names = list(models) or list(rubric.judges) or [config.model]
    redactor = store.backend.sink.redactor
    judges = [one for name in names for one in replace(config, model=name).made_judges()]
    config.judges = [one.working_for(store.backend.beside("judge"), redactor) for one in judges]
    ids = chosen(store, rubric, sample, seed, **filters)
    about: dict[str, Any] = {
        "technique": rubric.technique,
        "version": rubric.version,
        "trajectories": len(ids),
        "dry_run": dry_run,
    }
    stages: list[Any] = [_Chosen(rubric, ids), LabelingProcessor(), ScoringProcessor()]
    with SyncWorldRuntime(redactor=lambda: redactor) as runtime:
        if dry_run:
            with tempfile.TemporaryDirectory() as elsewhere:  # nothing is written to the store
                world = runtime.world("dry run", StorageConfig(elsewhere, NAMESPACE), stages, [config])
                _spawn(store, world, rubric, ids)
                return Scan(estimate=world.estimate(), **about)
        world = runtime.world(rubric.technique, StorageConfig(store.backend.here, NAMESPACE), stages, [config])
        _spawn(store, world, rubric, ids)
        found = Scan(estimate=world.estimate(), **about)
        if on_estimate is not None:
            on_estimate(found.estimate)
        before = dict(config.budget.spent)
        try:
            world.step()
        except WorldError as error:
            if isinstance(error.__cause__, InvalidInput):  # no key, say: that is the user's to mend, and no matter of a tick
                raise error.__cause__ from None
            raise
        found.spent = {name: spent - before[name] for name, spent in config.budget.spent.items()}
        _count(found, world, rubric, set(ids))
        found.from_journal = stages[1].said.get("from_journal", 0)
        found.written = world.write_back(store, rewards=rewards, weight=weight, trajectories=ids)
        return found


def _spawn(store: ScannedStore, world: SyncWorld, rubric: Rubric, ids: list[str]) -> None:
    waiting = iter(ids)
    while batch := list(islice(waiting, _BATCH)):
        world.spawn_from(store.backend.reader.read(batch), labels=[rubric.label()])


class _Chosen(AsyncProcessor):
    """Samples the rows of a rubric's version and of some trajectories. Rows of the technique's other versions become stale."""

    components = (Trajectory, Label)
    priority = 10
    hashes = True

    def __init__(self, rubric: Rubric, ids: list[str]) -> None:
        self._rubric, self._ids = rubric, set(ids)

    async def process(self, df: Any, resources: Resources | None = None, world: Any = None, **kwargs: Any) -> Any:
        rows = df.to_arrow()
        mine = world.hash_of(self._rubric.description)
        ids, descriptions, statuses = (
            rows.column(n).to_pylist() for n in ("trajectory__trajectory_id", "label__description", "label__status")
        )
        now = [description == mine for description in descriptions]
        sampled = [id in self._ids and current for id, current in zip(ids, now, strict=True)]
        status = [was if current else "stale" for was, current in zip(statuses, now, strict=True)]
        return with_columns(rows, {"label__sampled": sampled, "label__status": status})


def _count(found: Scan, world: SyncWorld, rubric: Rubric, ids: set[str]) -> None:
    """The labels of the version, by status and value."""
    columns = ("value", "score", "status", "error", "evidence_dropped", "form_json", "sampled")
    frame = world.query(Trajectory, Label)
    rows = frame.select("trajectory__trajectory_id", *(f"label__{n}" for n in columns)).to_pylist()
    statuses: Counter[str] = Counter()
    values: Counter[str] = Counter()
    scores = []
    for row in rows:
        if row["label__status"] == "stale":
            found.stale += 1
            continue
        if row["trajectory__trajectory_id"] not in ids:
            continue
        statuses[row["label__status"]] += 1
        found.evidence_dropped += row["label__evidence_dropped"]
        if row["label__status"] == "ok":
            values[row["label__value"]] += 1
            if row["label__score"] is not None:
                scores.append(row["label__score"])
        elif len(found.failed) < 20:
            about = {"trajectory": row["trajectory__trajectory_id"], "status": row["label__status"]}
            found.failed = [*found.failed, about | {"error": row["label__error"]}]
    found.statuses, found.values = dict(statuses.most_common()), dict(values.most_common())
    found.score = sum(scores) / len(scores) if scores else None
