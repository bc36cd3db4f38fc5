"""RULER: the trajectories of a group scored against each other by models that judge; and each by itself, by a rubric.

Scores are appended as rewards with source `judge`; what a store has already is neither asked nor written again. Method:
https://art.openpipe.ai/fundamentals/ruler; `odograph.judge.prompts` says what of ART's form is kept.
"""

from __future__ import annotations

import asyncio
import json
import math
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Unpack, cast

import msgspec

from ..api import Store
from ..asking.answer import Answer
from ..asking.client import Judge
from ..bulk import for_each, synced
from ..codec import content_hash
from ..conversations import Shown, show
from ..errors import InvalidInput, NotFound, check_count
from ..groups import REPLAY, RUNNING
from ..statistics.agreement import krippendorff_alpha, mean_absolute_deviation
from ..store.filters import FilterArgs
from ..trajectory import Trajectory
from ..types import Reward
from . import prompts
from .scores import Plan, alone, compared, estimated


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """One judge's judgement of one trajectory. `score`: 0 to 1, the mean of `scores`, one per repeat."""

    trajectory: str
    group: str | None
    judge: str
    score: float
    explanation: str
    scores: list[float]
    #: Of a rubric with criteria: the mean score of each, of which `score` is the mean.
    criteria: dict[str, float] = {}
    #: Whether the store had it already.
    known: bool = False


class Judgements(msgspec.Struct, kw_only=True):
    """The judgements of one call of `ruler`, and the failures."""

    judgements: list[Judgement] = []
    #: Per group (or trajectory, with `absolute`) and judge: `{"group", "trajectories", "judge", "status", "error"}`.
    failed: list[dict[str, Any]] = []
    #: Trajectories that were not judged, by reason.
    skipped: dict[str, int] = {}
    #: What the judges' budgets were charged (see `Budget`), and how many answers came from the journal.
    spent: dict[str, float] = {}
    cached: int = 0
    #: With `dry_run`: what it would cost, `{"calls", "tokens", "cost"}`.
    estimate: dict[str, float] | None = None

    @property
    def scores(self) -> dict[str, float]:
        """Each trajectory's score: the mean over the judges."""
        found: dict[str, list[float]] = {}
        for one in self.judgements:
            found.setdefault(one.trajectory, []).append(one.score)
        return {id: fmean(given) for id, given in found.items()}

    @property
    def agreement(self) -> dict[str, float | None]:
        """Agreement over judges and repeats: `krippendorff_alpha` (interval data), and `mean_absolute_deviation`, the averaged
        deviation of each trajectory's scores from their mean. None if nothing was judged twice.
        """
        given: dict[str, list[float]] = {}
        for one in self.judgements:
            given.setdefault(one.trajectory, []).extend(one.scores)
        several = [scores for scores in given.values() if len(scores) > 1]
        spread = sum(map(mean_absolute_deviation, several)) / len(several) if several else None
        return {"krippendorff_alpha": krippendorff_alpha(several), "mean_absolute_deviation": spread}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain | {"scores": self.scores, "agreement": self.agreement}


async def ruler(
    what: Store | Iterable[Trajectory],
    *,
    judge: Judge | Sequence[Judge],
    rubric: str | Path | Mapping[str, str] | None = None,
    absolute: bool = False,
    name: str | None = None,
    repeats: int = 1,
    seed: int = 0,
    weight: float = 1.0,
    store: Store | None = None,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **filters: Unpack[FilterArgs],
) -> Judgements:
    """Scores trajectories by judging models: the trajectories of each group against each other, or with `absolute` each by
    itself.

    `what` is a store or a list of trajectories. Of a store, the groups are scored, with the filters of `store.trajectories`. The
    scores are appended as rewards named `name` (default: `ruler`, or `rubric` with `absolute`), one per judge, with source
    `judge`, the judge's model as author and the explanation as rationale. A list of trajectories is one group; nothing is
    written unless `store=` names a store.

    `rubric`: a text, or the `Path` of a file with a text. With `absolute` also criteria: a mapping of names to texts, or a .json
    or .toml file with such a mapping. Each criterion is scored as a reward `rubric.NAME` with an equal share of the weight.
    `judge`: one or several judges. `repeats`: how often each judge is asked, each time in another order. `seed` decides the
    orders. Trajectories that look the same are shown once. A group too long for a judge's `context` is judged in parts with two
    trajectories in common, by which the scores are aligned.

    Answers are matched by id. An answer with a score outside 0 to 1, or with a missing or repeated id, is refused and asked for
    again. `.failed` has what could not be judged, without a reward; a second run asks only for that. `progress(done, total)`
    reports the progress.

    `dry_run`: ask nothing and write nothing. `.estimate` is the expected cost (see `Judge.estimate`), and `.judgements` are the
    existing judgements.

    Raises InvalidInput, NotFound for a missing rubric, MissingExtra, StoreError.
    """
    judges = [judge] if isinstance(judge, Judge) else list(judge)
    if not judges or not all(isinstance(j, Judge) for j in judges):
        raise TypeError("judge= is an odograph.Judge, or several")
    if len({j.model for j in judges}) < len(judges):
        raise InvalidInput(f"two judges of one model ({', '.join(j.model for j in judges)}); to ask one twice, give repeats=")
    check_count("repeats", repeats)
    if type(seed) is not int:
        raise InvalidInput(f"seed is a whole number, not {seed!r}")
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight):
        raise TypeError(f"weight is a finite number, not {weight!r}")
    if name is not None and (not isinstance(name, str) or not name):
        raise TypeError(f"name is a string, not {name!r}")
    text, criteria = _rubric(rubric)
    if criteria and not absolute:
        raise InvalidInput(f"a rubric with criteria ({', '.join(criteria)}) is for absolute scores: absolute=True")
    plan = Plan(text, criteria, name or ("rubric" if absolute else "ruler"), absolute, repeats, seed, weight)
    source = what if isinstance(what, Store) else None
    target = store if store is not None else source
    if source is None and filters:
        raise TypeError(f"filters ({', '.join(filters)}) need a store")
    if target is not None:
        judges = [j.working_for(target.backend.beside("judge"), target.backend.sink.redactor) for j in judges]
    result = Judgements(estimate=dict.fromkeys(("calls", "tokens", "cost"), 0.0) if dry_run else None)
    groups = _Groups(what, filters, result) if isinstance(what, Store) else _Given(list(what), result)
    if source is None and store is not None:
        for t in groups.members:
            store.trajectory(t.id)  # before anything is paid
    cached = sum(j.cached for j in judges)
    budgets = {id(j.budget): j.budget for j in judges}.values()
    before = [dict(b.spent) for b in budgets]
    done, total = 0, groups.total

    async def judge_unit(unit: tuple[str | None, list[Trajectory]]) -> None:
        nonlocal done
        group, members = unit
        shown = [(t, s) for t in members if (s := show(t)) is not None]
        groups.skip("nothing to judge", len(members) - len(shown))
        if len(shown) == 1 and not absolute:  # the others of its group were nothing to compare it with
            groups.skip("alone in its group")
        elif shown:
            await asyncio.gather(*(_judge(result, j, plan, group, shown, target) for j in judges))
        done += len(members)
        if progress is not None:
            progress(done, total)

    await for_each(groups.units(absolute), judge_unit, max(j.max_concurrency for j in judges))
    if progress is not None:
        progress(total, total)
    result.cached = sum(j.cached for j in judges) - cached
    result.spent = {
        name: sum(b.spent[name] - old[name] for b, old in zip(budgets, before, strict=True))
        for name in ("calls", "tokens", "cost")
    }
    return result


#: `ruler` for code that is not async; works beside a running event loop, too.
sync_ruler = synced(ruler)


def _rubric(given: str | Path | Mapping[str, str] | None) -> tuple[str, list[str]]:
    """Its text, and the names of its criteria."""
    if given is None:
        return prompts.DEFAULT_RUBRIC, []
    if isinstance(given, Path):
        path = given
        try:
            given = path.read_text("utf-8")
            if path.suffix in (".json", ".toml"):
                given = json.loads(given) if path.suffix == ".json" else tomllib.loads(given)
                if not isinstance(given, dict):
                    raise InvalidInput(f"the rubric {str(path)!r} is {type(given).__name__}, not an object of criteria")
        except UnicodeDecodeError:
            raise InvalidInput(f"the rubric {str(given)!r} is no text") from None
        except ValueError as error:
            raise InvalidInput(f"the rubric {str(path)!r} can't be read: {error}") from None
        except OSError as error:
            raise NotFound(f"no rubric at {str(given)!r}: {error.strerror}") from None
    elif isinstance(given, str) and len(given) < 200 and "\n" not in given and Path(given).is_file():
        raise InvalidInput(f"the rubric {given!r} is the name of a file; give Path({given!r})")
    if isinstance(given, Mapping):
        for key, value in given.items():
            if not (isinstance(key, str) and key.strip() and key.isprintable() and isinstance(value, str) and value.strip()):
                raise InvalidInput(f"a rubric's criteria are names with a text each, not {key!r:.40} with {value!r:.40}")
        given, criteria = "\n".join(f"- {key}: {value.strip()}" for key, value in given.items()), list(given)
        if criteria:
            return given, criteria
    if not isinstance(given, str):
        raise InvalidInput(f"a rubric is a text, a Path, or criteria with a text each, not {type(given).__name__}")
    if not given.strip():
        raise InvalidInput("the rubric is empty")
    return given, []


# --- which trajectories ---------------------------------------------------------------------------------------------------------


class _Given:
    """Trajectories that were handed over, in memory: one group, whatever groups they are of. `groups.Groups` reads the groups of
    a store, and has no part in this."""

    def __init__(self, members: list[Trajectory], result: Judgements) -> None:
        if not all(isinstance(t, Trajectory) for t in members):
            raise TypeError("ruler() takes a store, or trajectories of one group")
        self.members = list({t.id: t for t in members}.values())
        self._result = result
        self.total = len(self.members)

    def skip(self, why: str, count: int = 1) -> None:
        if count:
            self._result.skipped[why] = self._result.skipped.get(why, 0) + count

    def units(self, absolute: bool) -> Iterator[tuple[str | None, list[Trajectory]]]:
        if absolute:
            for t in self.members:
                yield t.group, [t]
        elif len(self.members) > 1:
            yield self.members[0].group, self.members
        else:
            self.skip("alone in its group", len(self.members))


class _Groups(_Given):
    """The groups of a store, read one at a time."""

    def __init__(self, store: Store, filters: FilterArgs, result: Judgements) -> None:
        super().__init__([], result)
        self._store = store
        self._groups = store.groups(**filters)
        self.total = store.count(**filters)

    def units(self, absolute: bool) -> Iterator[tuple[str | None, list[Trajectory]]]:
        groups, read = self._groups, self._store.backend.reader.read
        self.skip(RUNNING, len(groups.running))
        self.skip(REPLAY, len(groups.replays))
        if absolute:
            compared = (id for group in (*groups, *groups.too_small) for id in group.ids)
            yield from ((t.group, [t]) for t in read((*compared, *groups.ungrouped)))
            return
        self.skip("in no group", len(groups.ungrouped))
        self.skip("alone in its group", len(groups.too_small))
        for group in groups:
            yield group.name, list(read(group.ids))


# --- judging one group ----------------------------------------------------------------------------------------------------------


async def _judge(
    result: Judgements, judge: Judge, plan: Plan, group: str | None, members: list[tuple[Trajectory, Shown]], store: Store | None
) -> None:
    """What one judge thinks of a group: into the result, and into the store."""
    keyed = [(t, s, s.key) for t, s in members]
    distinct = dict(sorted({key: s for _, s, key in keyed}.items()))
    rubric_hash = content_hash(plan.rubric)
    # what the scores depend on; of a group also on the order and on who is in it
    seed = None if plan.absolute else plan.seed
    facts = [prompts.PROMPT_VERSION, plan.absolute, rubric_hash, seed, plan.repeats, plan.weight, judge.params, list(distinct)]
    names = [f"{plan.name}.{one}" for one in plan.criteria] or [plan.name]
    version = content_hash(facts)[:16]
    before = {t.id: _latest(t, plan.name, judge.model) for t, _, _ in keyed}
    known = {
        id: [there[name] for name in names]
        for id, there in before.items()
        if all(name in there and there[name].version == version and type(there[name].value) is float for name in names)
    }
    if len(known) == len(keyed):
        for t, _, _ in keyed:
            given = [fmean(scores) for scores in zip(*map(_scores, known[t.id]), strict=False)]
            parts = {one: fmean(_scores(r)) for one, r in zip(plan.criteria, known[t.id], strict=False)}
            result.judgements.append(_judgement(t, judge, given, known[t.id][0].rationale or "", parts, known=True))
        return
    if result.estimate is not None:
        for name, more in estimated(judge, plan, distinct).items():
            result.estimate[name] += more
        return
    ask = alone if plan.absolute else compared
    while True:
        rounds = await asyncio.gather(*(ask(judge, plan, distinct, repeat) for repeat in range(plan.repeats)))
        found = next((scores for scores in rounds if isinstance(scores, Answer)), None)
        if found is None:
            break
        gone = set(distinct)
        sizes = sorted((len(str(prompts.relative([one], plan.rubric))), key) for key, one in distinct.items())
        if found.status == "over_context" and len(sizes) > 2 and sizes[-1][0] > 2 * sizes[len(sizes) // 2][0]:
            gone = {sizes[-1][1]}  # one that is much longer than the others costs none of them its score
        failure = {"group": group, "trajectories": [t.id for t, _, key in keyed if key in gone], "judge": judge.model}
        result.failed.append(failure | {"status": found.status, "error": found.error})
        distinct = {key: one for key, one in distinct.items() if key not in gone}
        keyed = [(t, s, key) for t, s, key in keyed if key in distinct]
        if not distinct:
            return
    whole = [scores for scores in rounds if not isinstance(scores, Answer)]
    for t, _, key in keyed:
        given = [scores[key][0] for scores in whole]
        by = {c: [scores[key][2][c] for scores in whole] for c in plan.criteria}
        why = whole[0][key][1]
        places = [scores[key][3] for scores in whole]
        one = _judgement(t, judge, given, why, {c: fmean(scores) for c, scores in by.items()}, known=t.id in known)
        result.judgements.append(one)
        if store is None or one.known:
            continue
        with store.append(t.id) as run:
            about: dict[str, Any] = {"source": "judge", "author": judge.model, "version": version}
            beside: dict[str, Any] = {"range": [0.0, 1.0], "rubric_hash": rubric_hash, "seed": seed}
            beside |= {"compared": 1 if plan.absolute else len(keyed)} | ({"places": places} if all(places) else {})
            for name, scores in zip(names, by.values() or [given], strict=True):
                old = before[t.id].pop(name, None)
                run.reward(
                    fmean(scores),
                    name,
                    weight=plan.weight / len(names),
                    rationale=why,
                    supersedes=old.id if old is not None else None,
                    extra={"scores": scores, **beside},
                    **about,
                )
            for name, old in before[t.id].items():  # criteria that the rubric has no more
                if old.value is not None:
                    run.reward(None, name, weight=0.0, supersedes=old.id, **about)


def _judgement(t: Trajectory, judge: Judge, given: list[float], why: str, criteria: dict[str, float], known: bool) -> Judgement:
    about: dict[str, Any] = {"judge": judge.model, "explanation": why, "criteria": criteria, "known": known}
    return Judgement(trajectory=t.id, group=t.group, score=fmean(given), scores=given, **about)


def _scores(r: Reward) -> list[float]:
    given = (r.extra or {}).get("scores")
    return [float(s) for s in given] if isinstance(given, list) and given else [cast(float, r.value)]


def _latest(t: Trajectory, name: str, author: str) -> dict[str, Reward]:
    """What a judge gave under this name, and under those of criteria."""
    mine = (r for r in t.rewards if r.source == "judge" and r.author == author)
    return {r.name: r for r in mine if r.name == name or r.name.startswith(f"{name}.")}
