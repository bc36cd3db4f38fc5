"""Finds what nobody asked for: a judge says what stands out in each session, groups that in rounds, and a rubric is proposed.

Each observation quotes a turn; a quote that does not occur is dropped and counted. Grouping goes in rounds: parts of the
observations become groups, and groups become fewer groups, until one request holds all. Raw answers are journalled, so a run
that stopped goes on where it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Unpack

import msgspec

from ..asking.answer import Answer
from ..asking.client import Judge
from ..bulk import complete
from ..errors import InvalidInput, check_count
from ..store.filters import FilterArgs
from .forms import Form
from .people import chosen
from .prompting import Session, cut_middle, room, safe, session_of
from .rubrics import Rubric
from .scanning import ScannedStore
from .sessions import session_of as recorded_session
from .settings import LabelingConfig
from .verdicts import supported

_PART = 64  # sessions whose prompts are in memory at once
_EXAMPLES = 3  # quotes that a group shows
_ANSWER = 2000  # tokens of an answer
_PROMPTS = Path(__file__).parent / "prompts"


class _Observation(msgspec.Struct, frozen=True):
    what: str
    turn: int
    quote: str


class _Looked(msgspec.Struct, frozen=True):
    observations: list[_Observation]


class _Named(msgspec.Struct, frozen=True):
    name: str
    description: str
    members: list[int]


class _Grouped(msgspec.Struct, frozen=True):
    groups: list[_Named]


class Observed(msgspec.Struct, frozen=True):
    """What a judge saw in a session, and the turn and words that show it."""

    trajectory: str
    what: str
    turn: int
    quote: str


class Behaviour(msgspec.Struct, frozen=True):
    """A group of observations: in how many sessions it was seen, and some of them."""

    name: str
    description: str
    sessions: int
    examples: list[Observed]


class Discovery(msgspec.Struct, kw_only=True):
    """What `discover` found, or with `dry_run` what looking would cost."""

    sessions: int
    estimate: dict[str, float]
    dry_run: bool = False
    observations: int = 0
    #: Observations whose quote occurs nowhere in its turn.
    dropped: int = 0
    #: Observations that are in none of the behaviours.
    ungrouped: int = 0
    rounds: int = 0
    behaviours: list[Behaviour] = []
    #: The proposed rubric, as a file; empty where nothing was found.
    rubric: str = ""
    spent: dict[str, float] = {}
    #: Requests that failed: what for, status and error.
    failed: list[dict[str, Any]] = []

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what `odograph discover --json` prints."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def discover(
    store: ScannedStore,
    *,
    question: str = "",
    sample: int | None = 100,
    seed: int = 0,
    most: int = 10,
    per_round: int = 40,
    config: LabelingConfig | None = None,
    dry_run: bool = False,
    on_estimate: Callable[[dict[str, float]], None] | None = None,
    progress: Callable[[int], None] | None = None,
    **filters: Unpack[FilterArgs],
) -> Discovery:
    """Finds behaviours in a sample of a store's sessions, and proposes a rubric that labels sessions by them.

    `question`: what to look for in particular. `most`: groups that are proposed; `per_round`: observations that a request groups.
    `config` names the judge, its bounds and its budget; only its first judge is asked. `progress` is told how many sessions were
    looked at. Raises InvalidInput, MissingExtra, StoreError.
    """
    check_count("most", most)
    check_count("per_round", per_round, 2)
    config = config or LabelingConfig()
    judge = config.made_judges()[0].working_for(store.backend.beside("judge"), store.backend.sink.redactor)
    ids = chosen(store, Rubric(technique="", text="", form=Form()), sample, seed, **filters)
    looking = _Looking(store, judge, config, question)
    found = Discovery(sessions=len(ids), estimate=looking.estimate(ids), dry_run=dry_run)
    if dry_run:
        return found
    if on_estimate is not None:
        on_estimate(found.estimate)
    before = dict(judge.budget.spent)

    async def both() -> None:
        observed = await looking.look(ids, found, progress)
        await _group(judge, observed, found, most, per_round, question)

    complete(both())
    found.spent = {name: spent - before[name] for name, spent in judge.budget.spent.items()}
    if found.behaviours:
        found.rubric = proposed(found.behaviours, question)
    return found


class _Looking:
    """The first request about each session: what stands out."""

    def __init__(self, store: ScannedStore, judge: Judge, config: LabelingConfig, question: str) -> None:
        self._store, self._judge, self._config = store, judge, config
        self._system = (_PROMPTS / "look.md").read_text().strip()
        self._system += f"\n\nLook in particular for this: {question}" if question else ""

    def _parts(self, ids: Sequence[str]) -> Iterable[list[tuple[str, Session, list[dict[str, Any]]]]]:
        for start in range(0, len(ids), _PART):
            part = []
            for t in self._store.backend.reader.read(ids[start : start + _PART]):
                session = session_of(recorded_session(t).turns_json)
                lines, _ = cut_middle(session.lines, room(self._config.context, _ANSWER, len(self._system)))
                shown = f"<session>\n{chr(10).join(lines)}\n</session>\n\nWhat stands out in this session?"
                part.append((t.id, session, [{"role": "system", "content": self._system}, {"role": "user", "content": shown}]))
            yield part

    def estimate(self, ids: Sequence[str]) -> dict[str, float]:
        total = {"calls": 0.0, "tokens": 0.0, "cost": 0.0}
        for part in self._parts(ids):
            for name, more in self._judge.estimate([prompt for _, _, prompt in part], _Looked).items():
                total[name] += more
        return total

    async def look(self, ids: Sequence[str], found: Discovery, progress: Callable[[int], None] | None) -> list[Observed]:
        observed: list[Observed] = []
        done = 0
        for part in self._parts(ids):
            answers = await self._judge.ask([prompt for _, _, prompt in part], _Looked)
            for (id, session, _), answer in zip(part, answers, strict=True):
                if answer.status != "ok":
                    _failed(found, f"session {id}", answer)
                    continue
                for one in answer.value.observations:
                    kept, _ = supported([(one.turn, one.quote)], session.texts)
                    if kept and one.quote.strip() and one.what.strip():
                        observed.append(Observed(id, one.what.strip(), one.turn, one.quote))
                    else:
                        found.dropped += 1
            done += len(part)
            if progress is not None:
                progress(done)
        found.observations = len(observed)
        return observed


def _failed(found: Discovery, what: str, answer: Answer) -> None:
    found.failed = [*found.failed, {"what": what, "status": answer.status, "error": answer.error}]


class _Group(msgspec.Struct):
    """A group on its way: what the judge calls it, and the observations in it."""

    name: str
    description: str
    members: list[int]


async def _group(judge: Judge, observed: list[Observed], found: Discovery, most: int, per_round: int, question: str) -> None:
    groups = [_Group("", one.what, [n]) for n, one in enumerate(observed)]
    is_last = False
    while groups and not is_last:
        is_last = len(groups) <= per_round
        found.rounds += 1
        parts = [groups[start : start + per_round] for start in range(0, len(groups), per_round)]
        count = most if is_last else max(most, per_round // 2)
        system = (_PROMPTS / "group.md").read_text().strip().replace("{most}", str(count))
        system += f"\n\nThe sorting is for this question: {question}" if question else ""
        prompts = [
            [
                {"role": "system", "content": system},
                {"role": "user", "content": "\n".join(safe(_line(n, one)) for n, one in enumerate(part, 1))},
            ]
            for part in parts
        ]
        answers = await judge.ask(prompts, _Grouped)
        merged: list[_Group] = []
        for part, answer in zip(parts, answers, strict=True):
            if answer.status != "ok":
                _failed(found, f"grouping of {len(part)} in round {found.rounds}", answer)
                continue
            merged += _merged(part, answer.value)
        if not is_last and len(merged) >= len(groups):  # the judge sorts nothing together: it would go on for ever
            merged, is_last = sorted(merged, key=lambda g: -len(g.members))[:per_round], True
        groups = merged
    said = [(_behaviour(group, observed), group.members) for group in groups if group.name.strip()]
    said = sorted(said, key=lambda one: -one[0].sessions)[:most]
    found.behaviours = [behaviour for behaviour, _ in said]
    grouped = {n for _, members in said for n in members}
    found.ungrouped = len(observed) - len(grouped)


def _line(number: int, group: _Group) -> dict[str, Any]:
    about = {"name": group.name} if group.name else {}
    return {"number": number, **about, "what": group.description, "seen": len(group.members)}


def _merged(part: list[_Group], said: _Grouped) -> list[_Group]:
    """The groups that a judge made of others; a number that it names twice counts once, an unknown one not at all."""
    taken: set[int] = set()
    merged = []
    for one in said.groups:
        numbers = [n for n in dict.fromkeys(one.members) if 1 <= n <= len(part) and n not in taken]
        taken.update(numbers)
        if numbers:
            merged.append(_Group(one.name, one.description, [m for n in numbers for m in part[n - 1].members]))
    return merged


def _behaviour(group: _Group, observed: list[Observed]) -> Behaviour:
    some = [observed[n] for n in group.members]
    first = list({one.trajectory: one for one in reversed(some)}.values())[::-1]
    return Behaviour(group.name.strip(), group.description.strip(), len(first), first[:_EXAMPLES])


def proposed(behaviours: Sequence[Behaviour], question: str = "") -> str:
    """A rubric whose values are the behaviours, as the text of a file that `Rubric.of` reads."""
    names: dict[str, Behaviour] = {}
    for one in behaviours:
        name = " ".join(re.sub(r"[,=\[\]#:\"'`*\n-]+", " ", one.name).lower().split())[:60] or "unnamed"
        while name.casefold() in (*names, "none of these"):
            name += " too"
        names[name] = one
    lines = [
        "---",
        "technique: behaviour",
        "values:",
        *(f"  - {name}" for name in names),
        "  - none of these",
        "evidence: yes",
        "---",
    ]
    lines += [
        " ".join(question.split())
        or "Which of these behaviours does the agent show? Where several fit, the one that matters most.",
        "",
    ]
    for name, one in names.items():
        lines.append(f"- **{name}** (seen in {one.sessions} sessions): {' '.join(one.description.split())}")
    lines += ["", "## Examples", ""]
    for name, one in names.items():
        lines += [f'- {name}: "{" ".join(example.quote.split())[:200]}"' for example in one.examples]
    text = "\n".join(lines) + "\n"
    try:
        Rubric.of(text)
    except InvalidInput as error:
        raise AssertionError(f"the proposed rubric can't be used: {error}") from error
    return text
