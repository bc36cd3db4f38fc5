"""Recorded trajectories -> the component Trajectory; labels -> records of the trajectories that they judge. Knows no prompt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec

from .. import dialects
from ..codec import content_hash, encode
from ..conversations import show
from ..errors import InvalidInput, NotFound
from ..trajectory import Trajectory as Recorded
from .components import Label, Trajectory, Turn


def session_of(t: Recorded) -> Trajectory:
    """A recorded trajectory as a component: its own agent's conversation, then those of sub-agents. Its id and source stay."""
    shown = show(t)
    turns: list[Turn] = []
    if shown is not None:
        turns += _turns(shown.messages, None)
        for history in shown.more:
            turns += _turns(history.messages, history.agent)
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


def _turns(messages: list[dict[str, Any]], agent: str | None) -> Iterator[Turn]:
    """Chat-shaped messages as turns: tool calls and results are turns of their own."""
    about = {} if agent is None else {"agent": agent}
    for message in messages:
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
        raise InvalidInput("labels=[(technique, description), ...] says what the trajectories are judged by; it is empty")
    return found


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
    and judge.
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
        run: Any = None
        for row in some:
            technique, model, score = row["label__technique"] or "label", row["label__model"] or "human", row["label__score"]
            rubric = content_hash([technique, row["label__description"] or ""])
            rationale = _with_evidence(row)
            before = [r for r in t.labels if (r.technique, r.author, r.rubric_hash, r.target) == (technique, model, rubric, None)]
            if before and (before[-1].value, before[-1].score, before[-1].rationale or "") == (
                row["label__value"],
                score,
                rationale,
            ):
                report.unchanged += 1
            else:
                run = run or store.append(t.id)
                run.label(
                    technique,
                    row["label__value"],
                    score=score,
                    description=row["label__description"],
                    rationale=rationale,
                    author=model,
                    rubric_hash=rubric,
                    supersedes=before[-1].id if before else None,
                )
                report.labels += 1
            if rewards and score is not None:
                earlier = [r for r in t.rewards if (r.name, r.source, r.author) == (technique, "judge", model)]
                if not earlier or earlier[-1].value != score:
                    run = run or store.append(t.id)
                    run.reward(score, name=technique, source="judge", author=model, weight=weight)
                    report.rewards += 1
    return report


def _with_evidence(row: dict[str, Any]) -> str:
    """The rationale, with what it cites."""
    cited = json.loads(row["label__evidence_json"] or "[]")
    said = [row["label__rationale"] or ""] + [f'[turn {c["turn"]}] "{c["quote"]}"' for c in cited]
    return "\n".join(part for part in said if part)
