"""Recorded trajectories -> the component Trajectory; labels -> records of the trajectories that they judge. Knows no prompt."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Protocol

import msgspec

from .. import dialects
from ..calls import Call
from ..codec import encode
from ..conversations import show
from ..errors import InvalidInput, NotFound
from ..labels import current, quote_of, turn_of, version_of
from ..trajectory import Trajectory as Recorded
from ..types import Action
from .components import Label, Trajectory, Turn, target_of, turns_of
from .forms import form_of


def session_of(t: Recorded) -> Trajectory:
    """A recorded trajectory as a component: its own agent's conversation, then those of sub-agents. Its id and source stay."""
    shown = show(t)
    turns: list[Turn] = []
    if shown is not None:
        sources = _Sources(t)
        turns += _turns(shown.messages, None, sources)
        for history in shown.more:
            turns += _turns(history.messages, history.agent, sources)
    tokens = 0
    for call in t.llm_calls:
        usage = dialects.get(call.record.dialect).usage(call.usage)
        tokens += (usage.prompt or 0) + (usage.completion or 0)
    facts = {"agent": t.agent, "model": t.model, "group": t.group}
    answer = "" if t.answer is None else t.answer if isinstance(t.answer, str) else encode(t.answer).decode()
    source = t.metadata.get("source") if isinstance(t.metadata, dict) else None
    return Trajectory.from_turns(
        t.id,
        turns,
        source=source if isinstance(source, str) else (t.agent or ""),
        outcome=f"{t.status}: {answer[:1000]}" if answer else t.status,
        tags=[tag for tag in t.tags if isinstance(tag, str)],
        metadata={name: value for name, value in facts.items() if value is not None},
        duration_seconds=t.duration or 0.0,
        total_tokens=tokens or None,
    )


class _Sources:
    """Which records the turns of a trajectory come from: what a model said from its call, a tool's result from its action."""

    def __init__(self, t: Recorded) -> None:
        self._agent = t.agent
        self._steps = {(step.agent or t.agent, step.index): step.id for step in t.steps}
        self._calls: dict[int, list[Call]] = {}  # by the length of the prompt
        for call in t.llm_calls:
            if call.purpose == "act" and call.choices:
                self._calls.setdefault(len(call.messages), []).append(call)
        self._actions: dict[str, Action] = {}
        self._others: dict[str, list[Action]] = {}
        for record in t.records:
            if isinstance(record, Action):
                if record.tool_call_id is not None:
                    self._actions.setdefault(record.tool_call_id, record)
                else:
                    self._others.setdefault(record.name, []).append(record)

    def of(self, messages: list[dict[str, Any]], n: int) -> dict[str, Any]:
        """The record of a message, its step, and the step's record, as far as they are known."""
        message = messages[n]
        if message.get("role") == "assistant":
            before = messages[n - 1] if n else None
            call = next((c for c in self._calls.get(n, ()) if not n or c.messages[-1] == before), None)
            return {} if call is None else self._about(call.id, call.agent, call.step)
        if message.get("role") in ("tool", "function"):
            action = self._actions.get(str(message.get("tool_call_id")))
            others = self._others.get(str(message.get("name")))
            if action is None and others and message.get("tool_call_id") is None:
                action = others.pop(0)
            return {} if action is None else self._about(action.id, action.agent, action.step)
        return {}

    def _about(self, id: str, agent: str | None, step: int | None) -> dict[str, Any]:
        found: dict[str, Any] = {"record": id}
        if step is not None:
            found["step"] = step
            if (record := self._steps.get((agent or self._agent, step))) is not None:
                found["step_record"] = record
        return found


def _turns(messages: list[dict[str, Any]], agent: str | None, sources: _Sources) -> Iterator[Turn]:
    """Chat-shaped messages as turns: tool calls and results are turns of their own."""
    whose = {} if agent is None else {"agent": agent}
    for n, message in enumerate(messages):
        about = whose | sources.of(messages, n)
        role, text = message.get("role"), _said(message.get("content"))
        if role in ("tool", "function"):
            name = message.get("name")
            failed = message.get("ok") is False
            yield Turn(
                "tool_result",
                "" if failed else text,
                name if isinstance(name, str) else None,
                _said(message["arguments"]) if message.get("arguments") is not None else None,
                error=text if failed else None,
                metadata=about,
            )
            continue
        calls = message.get("tool_calls")
        calls = calls if isinstance(calls, list) else []
        if text or not calls:
            yield Turn(role if isinstance(role, str) else "user", text, metadata=about)
        for call in calls:
            function = call.get("function", call) if isinstance(call, dict) else {}
            function = function if isinstance(function, dict) else {}
            name = function.get("name")
            given = function.get("arguments", function.get("input"))
            yield Turn("tool_call", "", name if isinstance(name, str) else None, _said(given), metadata=about)


def _said(content: Any) -> str:
    """The text of a content: of its parts where it has parts; what is no text as JSON."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        return "\n".join(p["text"] for p in content)
    return encode(content).decode()


def labels_of(given: Iterable[Any]) -> list[Label]:
    """Labels that are given as `Label` objects or as (technique, description). Raises InvalidInput."""
    found = []
    for one in given:
        if isinstance(one, Label):
            found.append(one)
        elif isinstance(one, (tuple, list)) and len(one) == 2 and all(isinstance(part, str) for part in one):
            found.append(Label(technique=one[0], description=one[1]))
        else:
            raise InvalidInput(f"labels are (technique, description) or Label objects, not {one!r:.100}")
    if not found:
        raise InvalidInput("labels=[(technique, description), ...] is empty; at least one pair was expected")
    return found


def spawned_in(rows: Any) -> tuple[dict[tuple[str, str, str], int], dict[int, str]]:
    """Of a world's rows: the entity of each trajectory, technique and description, and the turns of each entity. Descriptions and
    turns are hashes."""
    names = ("trajectory__trajectory_id", "label__technique", "label__description", "entity_id", "trajectory__turns_json")
    columns = [rows.column(name).to_pylist() for name in names]
    entities = {(id, technique, text): entity for id, technique, text, entity, _ in zip(*columns, strict=True)}
    return entities, dict(zip(columns[3], columns[4], strict=True))


def labelled_in(
    rows: Any, texts: Callable[[Iterable[str]], dict[str, str]], trajectories: Collection[str] | None
) -> list[dict[str, Any]]:
    """A world's rows that have a verdict, as `write_back` takes them. `texts` gives the texts of hashes; `trajectories`: all by
    default."""
    there = ("trajectory__trajectory_id", "trajectory__turns_json")
    names = [n for n in rows.column_names if n.startswith("label__") or n in there]
    wanted = None if trajectories is None else set(trajectories)
    labelled = [
        row
        for row in rows.select(names).to_pylist()
        if row["label__status"] == "ok" and (wanted is None or row[there[0]] in wanted)
    ]
    descriptions = texts({row["label__description"] for row in labelled})
    for row in labelled:
        row["label__description"] = descriptions[row["label__description"]]
        if row["label__form_json"] and form_of(row["label__form_json"]).on != "trajectory":
            row[there[1]] = texts([row[there[1]]])[row[there[1]]]
    return labelled


class WrittenBack(msgspec.Struct, kw_only=True):
    """What `write_back` did: records written, those that the store had already, and labels of trajectories that it has not."""

    labels: int = 0
    rewards: int = 0
    unchanged: int = 0
    missing: int = 0


class RecordStore(Protocol):
    """The part of a store that takes labels."""

    def trajectory(self, id: str) -> Recorded: ...

    def append(self, id: str) -> Any: ...


def write_back(store: RecordStore, rows: Iterable[dict[str, Any]], rewards: bool, weight: float) -> WrittenBack:
    """Appends labels to the trajectories that they judge, as `label` records, and their scores as rewards where asked.

    What a trajectory has already is not written again; a verdict that changed supersedes the one of the same technique, rubric
    and judge. Where parts of a session are labelled, each part has a record of its own, too, whose target is the record that the
    part came from.
    """
    report = WrittenBack()
    by_trajectory: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_trajectory.setdefault(row["trajectory__trajectory_id"], []).append(row)
    for id, some in by_trajectory.items():
        try:
            t = store.trajectory(id)
        except NotFound:
            report.missing += len(some)
            continue
        back = _Back(store, t, report)
        for row in some:
            back.label(row)
            if rewards and row["label__score"] is not None:
                back.reward(row, weight)
    return report


class _Back:
    """What is appended to one trajectory."""

    def __init__(self, store: RecordStore, t: Recorded, report: WrittenBack) -> None:
        self._store, self._t, self._report = store, t, report
        self._run: Any = None

    @property
    def _appended(self) -> Any:
        self._run = self._run or self._store.append(self._t.id)
        return self._run

    def label(self, row: dict[str, Any]) -> None:
        """A verdict and, where parts are labelled, a record for each part."""
        technique, model = row["label__technique"] or "label", row["label__model"] or "human"
        about = {"description": row["label__description"], "author": model}
        about["rubric_hash"] = version_of(technique, row["label__description"] or "")
        mine = [r for r in current(self._t.labels) if (r.technique, r.author, r.rubric_hash) == (technique, *_who(about))]
        whole = next((r for r in reversed(mine) if turn_of(r) is None and r.target is None), None)
        found = json.loads(row.get("label__findings_json") or "[]")
        form = form_of(row.get("label__form_json") or "")
        if form.on != "trajectory":
            turns = turns_of(row["trajectory__turns_json"])
            parts = {(turn_of(r), quote_of(r)): r for r in mine if turn_of(r) is not None}
            for one in found:
                old = parts.pop((one["turn"], one["quote"]), None)
                extra = {name: one[name] for name in ("turn", "step", "quote") if name in one}
                more = {"target": target_of(turns, one["turn"], form.on), "extra": extra, **about}
                self._put(technique, old, one["value"], one["score"], one["rationale"], more)
            for old in parts.values():  # what the judge finds no more
                self._put(technique, old, None, None, None, {"target": old.target, "extra": old.extra, **about})
        self._put(technique, whole, row["label__value"], row["label__score"], _with_evidence(row), about)

    def _put(self, technique: str, old: Any, value: Any, score: Any, rationale: str | None, about: dict[str, Any]) -> None:
        if old is not None and (old.value, old.score, old.rationale or "") == (value, score, rationale or ""):
            self._report.unchanged += 1
            return
        supersedes = None if old is None else old.id
        self._appended.label(technique, value, score=score, rationale=rationale, supersedes=supersedes, **about)
        self._report.labels += 1

    def reward(self, row: dict[str, Any], weight: float) -> None:
        """A verdict's score."""
        technique, model, score = row["label__technique"] or "label", row["label__model"] or "human", row["label__score"]
        earlier = [r for r in self._t.rewards if (r.name, r.source, r.author) == (technique, "judge", model)]
        if not earlier or earlier[-1].value != score:
            self._appended.reward(score, name=technique, source="judge", author=model, weight=weight)
            self._report.rewards += 1


def _who(about: dict[str, Any]) -> tuple[Any, Any]:
    return about["author"], about["rubric_hash"]


def _with_evidence(row: dict[str, Any]) -> str:
    """The rationale, with what it cites."""
    cited = json.loads(row["label__evidence_json"] or "[]")
    said = [row["label__rationale"] or ""] + [f'[turn {c["turn"]}] "{c["quote"]}"' for c in cited]
    return "\n".join(part for part in said if part)
