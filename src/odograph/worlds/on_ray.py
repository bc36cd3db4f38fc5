"""Labelling on a Ray cluster: actors that ask judges, with a share of the bounds each and one journal of answers for all.

The driver hands out parts of the prompts. An actor that dies loses its part to another one, which reads the journal first: what
the dead one was answered is not asked again. A budget is leased part by part, so its limits hold for all actors together.
"""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

from ..asking.answer import Answer
from ..asking.budget import Budget
from ..asking.client import Judge
from ..clusters import started
from ..errors import StoreError, described
from ..log import logger
from .forms import Form

_PARTS = 2  # parts that an actor works at, so that the next one's requests fill the gaps of the one before
_TRIES = 5  # actors that may die over one part


def ray() -> Any:
    """Ray, started on this machine where none runs. Raises MissingExtra, OdographError."""
    return started("labelling on Ray")


def frames_on_ray() -> None:
    """Has Daft run the frames of processors and queries on the cluster. Daft chooses once in a process: where it ran a frame
    already, frames stay on this machine, and the log says so. Raises MissingExtra."""
    import daft

    ray()
    try:
        daft.set_runner_ray()
    except Exception as error:
        if daft.runners.get_or_create_runner().name != "ray":
            logger.warning("frames of worlds run on this machine and not on Ray: %s", described(error))


class Spread:
    """Judges that are asked by actors. `close` ends the actors."""

    def __init__(self, judges: list[Judge], folder: Path, workers: int = 0) -> None:
        self._ray = ray()
        cpus = int(self._ray.cluster_resources().get("CPU", 1))
        self.count = workers or max(1, min(cpus, *(judge.max_concurrency for judge in judges)))
        self._judges, self._folder = judges, folder
        self._actor = self._ray.remote(num_cpus=1, max_concurrency=_PARTS, max_restarts=0)(Worker)
        self._free: asyncio.Queue[Any] = asyncio.Queue()
        self._alive: list[Any] = []
        self._leased = 0
        self._last = asyncio.Lock()
        for _ in range(self.count):
            self._begin()

    @property
    def parts(self) -> int:
        """How many parts keep all actors at work."""
        return self.count * _PARTS

    def _begin(self) -> None:
        # each actor has its share of the requests that may be under way, one at least
        shares = [judge.shared_by(self.count) for judge in self._judges]
        actor = self._actor.remote(shares, str(self._folder))
        self._alive.append(actor)
        for _ in range(_PARTS):
            self._free.put_nowait(actor)

    async def ask(
        self, which: int, prompts: list[list[dict[str, Any]]], form: Form | None, evidence: bool, repeat: int
    ) -> list[Answer]:
        """The answers of a judge to prompts. `form` None: texts. Raises StoreError where actors die again and again."""
        found = await self._asked(which, prompts, form, evidence, repeat, whole=False)
        if any(answer.status == "over_budget" for answer in found):  # perhaps its share was too small, and others left some
            async with self._last:
                while self._leased:
                    await asyncio.sleep(0.05)
                if all(left is None or left > 0 for left in self._judges[which].budget.left().values()):
                    found = await self._asked(which, prompts, form, evidence, repeat, whole=True)
        return found

    async def _asked(
        self, which: int, prompts: list[list[dict[str, Any]]], form: Form | None, evidence: bool, repeat: int, *, whole: bool
    ) -> list[Answer]:
        judge = self._judges[which]
        for tries in range(_TRIES):
            actor = await self._free.get()
            lease = self._lease(judge, whole)
            self._leased += 1
            spent: dict[str, float] = {}
            try:
                found, spent = await actor.ask.remote(which, prompts, form, evidence, repeat, lease)
            except self._ray.exceptions.RayActorError:
                if actor in self._alive:  # another part may have seen it first
                    self._alive.remove(actor)
                    self._begin()
                continue
            finally:
                self._leased -= 1
                judge.budget.pay(lease, **spent)
            self._free.put_nowait(actor)
            for answer in found if tries else ():  # what the dead actor paid is in the journal
                if answer.cached:
                    tokens = answer.prompt_tokens + answer.completion_tokens
                    judge.budget.pay({}, calls=1, tokens=tokens, cost=answer.cost)
            return list(found)
        raise StoreError(f"{_TRIES} actors died over one part of a labelling; their logs are in Ray's folder of the session")

    def _lease(self, judge: Judge, whole: bool) -> dict[str, float]:
        """A share of what the budget has left, or all of it, held until the part is done."""
        share: dict[str, float] = {}
        for name, left in judge.budget.left().items():
            if left is not None:
                part = left if whole else left / max(1, self.parts - self._leased)
                share[name] = float(int(part)) if name == "calls" else part
        judge.budget.take(**share)
        return share

    def close(self) -> None:
        """Ends the actors."""
        for actor in self._alive:
            self._ray.kill(actor)
        self._alive.clear()


class Worker:
    """An actor: judges with their share of the bounds, and the journal that all share."""

    def __init__(self, judges: list[Judge], folder: str) -> None:
        self._judges = [judge.working_for(Path(folder)) for judge in judges]

    async def ask(
        self,
        which: int,
        prompts: list[list[dict[str, Any]]],
        form: Form | None,
        evidence: bool,
        repeat: int,
        lease: dict[str, float],
    ) -> tuple[list[Answer], dict[str, float]]:
        """The answers, and what they cost; `lease` is what may be spent."""
        judge = copy.copy(self._judges[which])  # it shares the slots of requests
        judge.budget = Budget(**{k: int(v) if k == "calls" else v for k, v in lease.items()})  # type: ignore[arg-type]
        judge.catch_up()
        if form is None:
            found = await judge.ask(prompts)
        else:
            found = await judge.ask(prompts, form.schema(evidence), parse=form.read, repeat=repeat)
        return found, judge.budget.spent
