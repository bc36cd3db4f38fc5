"""Preference pairs for DPO with TRL: `prompt`, `chosen` and `rejected` as messages, `tools` as JSON.

Of edits that are marked as preferred (`by="edits"`: what was generated is rejected, what it was made is chosen), or of groups
(`by="reward"`: the trajectory with the highest reward against the one with the lowest, after the same first prompt).
Source: https://huggingface.co/docs/trl/dpo_trainer (trl 1.16).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...codec import content_hash
from ...errors import InvalidInput
from ...trajectory import Trajectory
from ..views import BATCH, NO_OBJECT, answer_of, is_batch, rendered, tools_of, unsaid
from . import Made

NAME = "trl-dpo"
FILES = ("jsonl",)
PLAN: dict[str, Any] = {"edits": "pair"}
REFUSES = dict.fromkeys(("env", "mask", "reweight", "imitate"), "DPO is trained on pairs")


def lines(group: list[Made], *, by: str = "edits") -> Iterator[dict[str, Any]]:
    """A row per pair. `by`: edits or reward."""
    if by == "edits":
        for made in group:
            found = list(_of_edits(made))
            if not found:
                made.gone = True
            yield from found
    elif by == "reward":
        for made in group:
            for sample in made.samples:
                made.refused(sample, "pairs are made by reward")
        found = list(_of_rewards(group))
        used = {row[name] for row in found for name in ("trajectory", "rejected_trajectory")}
        for made in group:
            if made.trajectory.id not in used:
                made.gone = True
        yield from found
    else:
        raise InvalidInput(f"pairs are made by edits or reward, not {by!r}")


def _of_edits(made: Made) -> Iterator[dict[str, Any]]:
    for pair in made.samples:
        if not pair.prompt:
            made.refuse("a pair whose prompt is not known as messages", pair)
        elif pair.answer.get("tool_calls"):
            made.refuse("a pair of an answer with tool calls", pair)  # as text alone it would not be what was said
        elif (prompt := rendered(pair.prompt)) is None:
            made.refuse(NO_OBJECT, pair)
        elif pair.chosen is None:
            made.refuse("a pair whose chosen text is not known: give tokenizer=", pair)
        elif pair.chosen == pair.rejected:
            made.refuse("an edit that changes no text", pair)
        else:
            yield {
                "prompt": prompt,
                "chosen": [{**pair.answer, "content": pair.chosen}],
                "rejected": [{**pair.answer, "content": pair.rejected}],
                "tools": tools_of(pair),
                "trajectory": pair.trajectory,
                "group": pair.group,
            }


def _of_rewards(group: list[Made]) -> Iterator[dict[str, Any]]:
    left_out = group[0].left_out
    alike: dict[str, list[tuple[float, Trajectory, list[Any], list[Any], str | None]]] = {}
    for made in group:
        t = made.trajectory
        if made.unfit is not None:  # said in the account of samples
            continue
        calls = [c for c in t.llm_calls if c.purpose == "act" and c.choices and c.agent in (None, t.agent)]
        if not calls or not calls[0].messages:
            left_out("no call whose prompt is known as messages")
        elif any(map(is_batch, calls)):
            left_out(BATCH)
        elif made.reward is None:
            left_out("no reward")
        elif (why := unsaid(calls[-1].choices[0])) is not None:
            left_out(why)
        else:
            prompt = rendered(calls[0].messages)
            answer = {"content": None, **answer_of(calls[-1].choices[0])}
            whole = rendered([*calls[-1].messages, answer])
            if prompt is None or whole is None:
                left_out(NO_OBJECT)
                continue
            if whole[: len(prompt)] != prompt:
                left_out("a conversation that does not go on from its first prompt")
                continue
            alike.setdefault(content_hash(prompt), []).append((made.reward, t, prompt, whole[len(prompt) :], tools_of(calls[-1])))
    for many in alike.values():
        many.sort(key=lambda m: m[0])
        (low, worst, prompt, rejected, _), (high, best, _, chosen, tools) = many[0], many[-1]
        for _ in many[1:-1]:
            left_out("a reward between the highest and the lowest")
        if low == high:
            left_out("a group of one reward")
            continue
        rewards = {"chosen_reward": high, "rejected_reward": low}
        ids = {"trajectory": best.id, "rejected_trajectory": worst.id, "group": best.group}
        yield {"prompt": prompt, "chosen": chosen, "rejected": rejected, "tools": tools, **rewards, **ids}
