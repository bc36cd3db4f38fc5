"""Groups of ART, one a line: `trajectories` with messages and choices, each call of the policy a history of its own.

The ids of a choice are in its logprobs, as `token_id:N`, which is where ART reads them. A history ends with its choice: in
the middle of one,
ART would render a choice's tool calls a second time. `group(line)` makes an `art.TrajectoryGroup`, which validating the
JSON with ART's own classes does not. Source: openpipe-art 0.5.18, `art.trajectories` and `art.preprocessing.tokenize`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...calls import Call
from ...dialects import Choice
from ...dialects.content import as_json
from ...errors import MissingExtra
from ...plugins import available
from ..sample import Part, Sample
from . import Made
from .tokens import usable

NAME = "art"
FILES = ("jsonl",)
PLAN: dict[str, Any] = {"edits": "env", "advantage": None}
NEEDS = {"logprobs": True}
ADVANTAGES = "art"
REFUSES = dict.fromkeys(("mask", "reweight", "imitate", "pair"), "ART trains whole choices")
_FINISH = ("stop", "length", "tool_calls", "content_filter", "function_call")


def lines(group: list[Made]) -> Iterator[dict[str, Any]]:
    """A line per group; a trajectory that is in no group is one of its own."""
    found = [one for made in group if (one := _trajectory(made)) is not None]
    if found:
        first = group[0].trajectory
        scenario = first.group if first.group is not None else first.id
        yield {"trajectories": found, "metadata": {"scenario": scenario}, "metrics": {}, "logs": []}


def _trajectory(made: Made) -> dict[str, Any] | None:
    t = made.trajectory
    if made.samples and made.reward is None:  # ART has no "not known", and NaN spoils the whole group there
        made.refuse("no reward")
        return None
    samples = []
    parts: dict[str, tuple[Part, Sample]] = {}
    for sample in usable(made):
        if any(part.call in parts for part in sample.parts):
            made.refuse("a second choice of a call", sample)
            continue
        samples.append(sample)
        parts |= {part.call: (part, sample) for part in sample.parts}
    calls = [c for c in t.llm_calls if c.id in parts]
    if len(calls) < len(parts) or not all(c.messages for c in calls):
        for sample in samples:
            made.refuse("a call whose prompt is not known as messages", sample)
        made.gone = True
        return None
    if not calls:
        return None
    histories = [
        {"messages_and_choices": [*call.messages, _choice(call, *parts[call.id])], "tools": call.tools or None} for call in calls
    ]
    versions = [v for sample in samples for _, v in sample.versions if type(v) is int]
    plain = {k: v for k, v in t.metadata.items() if isinstance(v, (str, int, float, bool))}
    return {
        **histories[0],
        "additional_histories": histories[1:],
        "reward": made.reward,
        "initial_policy_version": min(versions, default=None),
        "final_policy_version": max(versions, default=None),
        "metrics": {name: value for name in t.rewards.names if (value := t.rewards[name]) is not None},
        "metadata": plain | {"trajectory": t.id, "group": t.group or "", "agent": t.agent or "", "task": _text(t.task)},
        "logs": [],
    }


def _text(task: Any) -> str:
    return task if isinstance(task, str) else as_json(task)


def _choice(call: Call, part: Part, sample: Sample) -> dict[str, Any]:
    """The choice that is trained, as OpenAI's SDK has it, its ids in the logprobs."""
    found: Choice = next(c for c in call.choices if c.index == part.choice)
    reason = found.finish_reason if found.finish_reason in _FINISH else "tool_calls" if found.tool_calls else "stop"
    message = {"content": None, **{k: v for k, v in found.message.items() if v not in (None, [])}, "role": "assistant"}
    tokens: list[dict[str, Any]] = [
        {"token": f"token_id:{sample.token_ids[n]}", "logprob": sample.logprobs[n], "bytes": None, "top_logprobs": []}
        for n in range(part.start, part.stop)
    ]
    logprobs = {"content": tokens, "refusal": None}
    return {"index": 0, "finish_reason": reason, "message": message, "logprobs": logprobs}


def group(line: dict[str, Any]) -> Any:
    """An `art.TrajectoryGroup` of a line. Raises MissingExtra without openpipe-art."""
    if not available("art"):
        raise MissingExtra("making groups for ART", "art")
    import art
    from art.trajectories import History
    from openai.types.chat.chat_completion import Choice as TheirChoice

    def turned(history: dict[str, Any]) -> list[Any]:
        return [TheirChoice.model_validate(m) if "finish_reason" in m else m for m in history["messages_and_choices"]]

    def one(given: dict[str, Any]) -> Any:
        more = [History(messages_and_choices=turned(h), tools=h.get("tools")) for h in given["additional_histories"]]
        rest = {k: v for k, v in given.items() if k not in ("messages_and_choices", "additional_histories")}
        return art.Trajectory(messages_and_choices=turned(given), additional_histories=more, **rest)

    return art.TrajectoryGroup([one(t) for t in line["trajectories"]], metadata=line["metadata"])
