"""Records -> the list of state/action/reward items that a response holds. The same from a live run as from the store.

The shape is AWorld's (https://github.com/inclusionAI/AWorld), with what was really sent, done and earned in it.
"""

from __future__ import annotations

from typing import Any

from ..calls import Call
from ..clock import iso_time
from ..codec import encode
from ..store.lines import decode
from ..streams import IdsLine, MessageLine, Streams
from ..totals import reward_total, trajectory_reward
from ..trajectory import Step
from ..types import Action, AnyRecord, End, LLMCall, Reward, Start, StepStart

Key = tuple[str | None, int]


class Items:
    """Grows with the records that it is given; an item is built when it is asked for, and again only when its step changed."""

    def __init__(self, task_id: str | None = None) -> None:
        self._task_id = task_id
        self._streams = Streams()
        self._start: Start | None = None
        self._end: End | None = None
        self._steps: dict[Key, Step] = {}
        self._built: dict[Key, dict[str, Any]] = {}
        self._rewards: list[Reward] = []
        self._replaced: set[str] = set()
        #: The last step inside of each record: of the run, or of the action that another agent was at work in.
        self._last: dict[str | None, Key] = {}
        self._closed: set[str | None] = set()

    def __len__(self) -> int:
        return len(self._steps)

    def add_lines(self, data: bytes, writer: str) -> None:
        """Lines as a journal of this writer holds them."""
        for line in data.split(b"\n"):
            found = decode(line, writer) if line else None
            if isinstance(found, (MessageLine, IdsLine)):
                self._streams.add(writer, found)
            elif found is not None:
                self.add(found)

    def add(self, record: AnyRecord, streams: Streams | None = None) -> None:
        """One record; `streams` hold what its calls have packed."""
        if record.supersedes:
            self._replaced.add(record.supersedes)
        match record:
            case Start():
                self._start = self._start or record
            case End():
                self._end = record
                for key in self._last.values():
                    self._built.pop(key, None)
            case _ if record.step is None:
                if isinstance(record, Reward):
                    self._rewards.append(record)
            case _:
                key = (record.agent or (self._start.agent if self._start else None), record.step)
                step = self._steps.get(key)
                if step is None:
                    step = self._steps[key] = Step(key[1], key[0])
                self._built.pop(key, None)
                if isinstance(record, StepStart):
                    step.record = record
                    before = self._last.get(record.parent)
                    self._last[record.parent] = key
                    if before is not None:
                        self._built.pop(before, None)
                else:
                    step._add(record, Call(record, streams or self._streams) if isinstance(record, LLMCall) else None)
                if isinstance(record, Action) and record.id in self._last:
                    self._closed.add(record.id)
                    self._built.pop(self._last[record.id], None)

    def items(self, *, messages: bool = True, limit: int | None = None, agent: str | None = None) -> list[dict[str, Any]]:
        """The items in the order of their steps: of one agent, or of all; the first `limit` steps."""
        keys = list(self._steps)[:limit]
        built = [self._item(key) for key in keys]
        if built:
            built[-1] = self._with_whole(built[-1])
        if agent is not None:
            built = [item for item in built if item["meta"]["agent"] == agent]
        if not messages:
            built = [item | {"state": {k: v for k, v in item["state"].items() if k != "messages"}} for item in built]
        return built

    def _item(self, key: Key) -> dict[str, Any]:
        item = self._built.get(key)
        if item is None:
            item = self._built[key] = self._build(self._steps[key])
        return item

    def _build(self, step: Step) -> dict[str, Any]:
        calls = [c for c in step.llm_calls if c.id not in self._replaced]
        call = next((c for c in reversed(calls) if c.purpose == "act"), None)
        rewards = [r for r in step.rewards if r.id not in self._replaced]
        actions = [a for a in step.actions if a.id not in self._replaced]
        record = step.record
        timed: list[LLMCall | Action] = [*(c.record for c in calls), *actions]
        times = [r.started for r in timed if r.started is not None]
        spent = [r.started + r.duration for r in timed if r.started is not None and r.duration is not None]
        began = record.source_time or record.time if record else min(times, default=None)
        action: dict[str, Any] = {"content": None, "tool_calls": [], "is_agent_finished": self._is_last(step)}
        if call is not None:
            choice = next(iter(call.choices), None)
            if choice is not None:
                action["content"] = choice.text
                action["tool_calls"] = [_tool_call(c.id, c.name, c.arguments) for c in choice.tool_calls]
            if call.reasoning:
                action["reasoning"] = call.reasoning
            if call.error is not None:
                action["error"] = call.error
            order = {c["id"]: n for n, c in enumerate(action["tool_calls"])}
            actions.sort(key=lambda a: order.get(a.tool_call_id, len(order)))
        action["results"] = [
            {"tool_call_id": a.tool_call_id, "name": a.name, "arguments": a.arguments, "content": a.result, "ok": a.ok}
            | ({"error": a.error} if a.error is not None else {})
            for a in actions
        ]
        contexts = [{"provider": c.provider, "query": c.query, "data": c.data, "purpose": c.purpose} for c in step.contexts]
        return {
            "id": step.id,
            "meta": {
                "task_id": self._task_id or _task_id(self._start),
                "trajectory": self._start.trajectory if self._start else None,
                "agent": step.agent,
                "step": step.index,
                "inside": record.parent if record and self._start and record.parent != self._start.id else None,
                "started": iso_time(began),
                "duration": (max(spent) - began) / 1e9 if spent and began is not None else None,
            },
            "state": {
                "input": step.observation,
                "messages": call.messages if call is not None else [],
                "contexts": contexts,
            },
            "action": action,
            "reward": {
                "score": reward_total(r for r in rewards if r.target is None and r.span is None),
                "components": [_component(r, "step") for r in rewards],
            },
        }

    def _is_last(self, step: Step) -> bool:
        parent = step.record.parent if step.record else None
        if self._last.get(parent) != (step.agent, step.index):
            return False
        return parent in self._closed or self._end is not None

    def _with_whole(self, last: dict[str, Any]) -> dict[str, Any]:
        """The last item, with the rewards on the trajectory as a whole."""
        whole = [r for r in self._rewards if r.id not in self._replaced]
        reward = last["reward"]
        if whole:
            own = any(c["target"] != "record" for c in reward["components"])
            score = reward["score"] if own else trajectory_reward(whole)  # an unknown one stays so
            components = [*reward["components"], *(_component(r, "trajectory") for r in whole)]
            last = last | {"reward": {"score": score, "components": components}}
        return last


def _task_id(start: Start | None) -> str | None:
    about = start.metadata.get("runtime") if start else None
    return about.get("task_id") if isinstance(about, dict) else None


def _tool_call(id: str | None, name: str, arguments: Any) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else encode(arguments).decode()
    return {"id": id, "type": "function", "function": {"name": name, "arguments": text}}


def _component(r: Reward, of: str) -> dict[str, Any]:
    found: dict[str, Any] = {"name": r.name, "value": r.value, "weight": r.weight, "source": r.source}
    for name in ("author", "rationale", "version"):
        value = getattr(r, name)
        if value is not None:
            found[name] = value
    return found | {"target": "record" if r.target is not None else of}
