"""Checks over many trajectories: groups that teach nothing, and tasks or trajectories that are there twice. Keeps hashes only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from ..calls import Call
from ..codec import encode
from ..dialects import ids_at, resent
from ..packing import standing_path, take_out
from ..prefix import Prefix, shared_prefix
from ..trajectory import Trajectory
from ..types import Action, Context, LLMCall, StepStart
from .define import Check

GROUP = Check("group", "warning", "a group of one, of no reward variance, or of mixed tasks or policy versions", ("rl",))
CONTAMINATION = Check("contamination", "error", "the same task in two splits, or the same trajectory twice", ("sft", "rl"))
_SPLITS = ("train", "training", "test", "validation", "val", "valid", "dev", "eval", "holdout")


class Facts(msgspec.Struct, frozen=True, array_like=True):
    """What a trajectory is compared by. Hashes have 128 bits of SHA-256."""

    id: str
    group: str | None
    task: bytes | None
    policy: str | None
    reward: float | None
    split: str | None
    #: Of all that was said and done; None where nothing was.
    content: bytes | None
    #: Of when; empty where that is not known.
    times: bytes


def facts(t: Trajectory) -> Facts:
    """The facts of one trajectory."""
    policy = t.start.policy_version if t.start else None
    content = None if "replay_of" in t.metadata else _content(t)
    source = t.metadata.get("source")
    asked = source.get("task") if isinstance(source, dict) else None
    if asked is None:  # else t.task is how a simulated user put it, in other words each time
        asked = t.task
    task = None if asked is None else _short(hashlib.sha256(encode(asked)))
    first = t.start.time if t.start else 0
    times = [r.source_time if r.source_time is not None else r.time - first for r in t.records]
    return Facts(
        t.id,
        t.group,
        task,
        None if policy is None else str(policy),
        t.reward,
        split_of(t),
        content,
        _short(hashlib.sha256(encode(times))) if any(r.time or r.source_time for r in t.records) else b"",
    )


def _short(digest: Any) -> bytes:
    return bytes(digest.digest()[:16])


def split_of(t: Trajectory) -> str | None:
    """The split that a trajectory says it is of: `metadata.split`, a tag `split:NAME`, or a tag that is a split's usual name."""
    stated = t.metadata.get("split")
    if isinstance(stated, str):
        return stated
    for tag in t.tags:
        if tag.startswith("split:"):
            return tag[6:]
    return next((tag for tag in t.tags if tag in _SPLITS), None)


def _content(t: Trajectory) -> bytes | None:
    digest = hashlib.sha256(encode([t.task, t.answer]))
    something = False
    last: dict[Any, list[Any] | Prefix] = {}

    def new(key: Any, items: list[Any] | Prefix) -> list[Any]:
        """What a list says that was not said at the call before: a history is hashed once, not at every call."""
        same = shared_prefix(last.get(key, []), items)
        last[key] = items
        return [same, items[same:]]

    for record in t.records:
        if isinstance(record, LLMCall):
            call = t.call(record)
            who = (record.agent, record.purpose)
            request, response = call.sending, _without_prompt(call)
            if isinstance(request, dict):
                lists = [name for name in resent(record.dialect).lists if isinstance(request.get(name), list | Prefix)]
                request = {**request, **{name: new((*who, name), request[name]) for name in lists}}
            # ids beside a request say what its texts say; without a request they alone say what was asked
            ids = None if call.has_prompt_ids_beside and record.request is not None else call.prompt_ids
            tokens = [tokens.token_ids for tokens in call.answered.tokens]
            said: list[Any] = [request, response, record.reasoning, record.started, record.duration, tokens]
            said += [new(who, ids)] if ids is not None else []
            something = something or bool(response or record.tokens)
        elif isinstance(record, Action):
            said = [record.name, record.arguments, record.result, record.started, record.duration]
            something = True
        elif isinstance(record, Context):
            said = [record.provider, record.data, record.query, record.started]
        elif isinstance(record, StepStart):
            said = [record.observation]
        else:
            continue
        digest.update(encode([record.agent, record.step, *said]))
    return _short(digest) if something else None


def _without_prompt(call: Call) -> Any:
    """A response without the token ids of its prompt, whether they are stored apart or not."""
    fields = {"response": call.answered.response}
    for path in resent(call.dialect).prompt_ids:
        if path[0] == "response" and ids_at(fields, path) is not None:
            take_out(fields, standing_path(fields, path))
    return fields["response"]


class _Group(msgspec.Struct):
    first: str
    count: int
    task: bytes | None
    policy: str | None
    reward: float | None
    rewarded: int
    tasks_differ: bool = False
    policies_differ: bool = False
    rewards_differ: bool = False


class Across:
    """Takes the facts of trajectories one after the other; tells what is wrong with them together."""

    def __init__(self, groups: bool = True, contamination: bool = True, whole: bool = True) -> None:
        self._looks = (groups, contamination)
        #: Whether all members of a group are among what is taken.
        self._whole = whole
        self._groups: dict[str, _Group] = {}
        self._tasks: dict[bytes, tuple[str, str]] = {}
        self._contents: dict[bytes, tuple[str, bytes, str | None]] = {}

    def take(self, f: Facts) -> Iterator[tuple[str, str, str, str]]:
        """(code, trajectory, path, message) of what is wrong with one and those before it."""
        groups, contamination = self._looks
        if groups and f.group is not None:
            self._grouped(f, f.group)
        if not contamination:
            return
        if f.task is not None and f.split is not None:
            split, other = self._tasks.setdefault(f.task, (f.split, f.id))
            if split != f.split:
                yield "contamination", f.id, "start.task", f"the task of {f.id} in {f.split} is that of {other} in {split}"
        if f.content is not None:
            known = self._contents.setdefault(f.content, (f.id, f.times, f.group))
            # attempts of a group may come out the same; a copy has the same times, too
            if known[0] != f.id and (f.group is None or f.group != known[2] or (f.times and f.times == known[1])):
                yield (
                    "contamination",
                    f.id,
                    "steps",
                    f"{f.id} says and does exactly what {known[0]} does",
                )

    def _grouped(self, f: Facts, name: str) -> None:
        group = self._groups.get(name)
        if group is None:
            self._groups[name] = _Group(f.id, 1, f.task, f.policy, f.reward, int(f.reward is not None))
            return
        group.count += 1
        group.tasks_differ |= f.task != group.task
        group.policies_differ |= f.policy != group.policy
        if f.reward is not None:
            if group.reward is None:
                group.reward = f.reward
            group.rewarded += 1
            group.rewards_differ |= f.reward != group.reward

    def finish(self) -> Iterator[tuple[str, str, str, str]]:
        """The same of the groups, when all were taken."""
        for name, g in self._groups.items():
            why = []
            if g.count == 1 and self._whole:
                why.append("it has one trajectory: there is nothing to compare it with")
            if g.rewarded == 1 < g.count:
                why.append(f"one of its {g.count} trajectories has a reward: there is nothing to compare it with")
            if g.rewarded > 1 and not g.rewards_differ:
                why.append(f"all {g.rewarded} rewards are {g.reward:g}: no advantage comes of it")
            if g.tasks_differ:
                why.append("its trajectories have different tasks")
            if g.policies_differ:
                why.append("its trajectories are of different policy versions")
            for reason in why:
                yield "group", g.first, "start.group", f"group {name}: {reason}"
