"""Groups of ART, one a line: `trajectories` with messages and choices, each call of the policy a history of its own.

The ids of a choice are in its logprobs, as `token_id:N`, which is where ART reads them. A history ends with its choice: in
the middle
of one, ART would render a choice's tool calls a second time. `group(line)` makes an `art.TrajectoryGroup`, which validating the
JSON with ART's own classes does not. Source: openpipe-art 0.5.18, `art.trajectories` and `art.preprocessing.tokenize`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...codec import encode
from ...dialects import Choice
from ...errors import MissingExtra
from ...plugins import available
from ...trajectory import Call
from . import Made

NAME = "art"
FILES = ("jsonl",)
PLAN: dict[str, Any] = {"edits": "env", "advantage": None}
REFUSES = dict.fromkeys(("mask", "reweight", "imitate", "pair"), "ART trains whole choices")
_FINISH = ("stop", "length", "tool_calls", "content_filter", "function_call")


def lines(group: list[Made]) -> Iterator[dict[str, Any]]:
    """A line per group; a trajectory that is in no group is one of its own. Calls without ids are trained as text."""
    found = [one for made in group if (one := _trajectory(made)) is not None]
    if found:
        first = group[0].trajectory
        scenario = first.group if first.group is not None else first.id
        yield {"trajectories": found, "metadata": {"group": scenario}, "metrics": {}, "logs": []}


def _trajectory(made: Made) -> dict[str, Any] | None:
    t = made.trajectory
    if t.reward is None:  # ART has no "not known", and NaN spoils the whole group there
        made.refuse("no reward")
        return None
    trained = {part.call for sample in made.samples for part in sample.parts}
    calls = [c for c in t.llm_calls if c.purpose == "act" and c.choices and c.record.error is None]
    if trained:
        calls = [c for c in calls if c.id in trained]
    if not calls or not all(c.messages for c in calls):
        made.refuse("a call whose prompt is not known as messages" if calls else "no call of the policy")
        return None
    histories = [{"messages_and_choices": [*call.messages, _choice(call)], "tools": call.tools or None} for call in calls]
    version = t.start.policy_version if t.start and isinstance(t.start.policy_version, int) else None
    plain = {k: v for k, v in t.metadata.items() if isinstance(v, (str, int, float, bool))}
    return {
        **histories[0],
        "additional_histories": histories[1:],
        "reward": t.reward,
        "initial_policy_version": version,
        "final_policy_version": version,
        "metrics": {name: value for name in t.rewards.names if (value := t.rewards[name]) is not None},
        "metadata": plain | {"trajectory": t.id, "group": t.group or "", "agent": t.agent or "", "task": _text(t.task)},
        "logs": [],
    }


def _text(task: Any) -> str:
    return task if isinstance(task, str) else encode(task).decode()


def _choice(call: Call) -> dict[str, Any]:
    """The first choice as OpenAI's SDK has it, its ids in the logprobs."""
    found: Choice = call.choices[0]
    reason = found.finish_reason if found.finish_reason in _FINISH else "tool_calls" if found.tool_calls else "stop"
    message = {"content": None, **{k: v for k, v in found.message.items() if v not in (None, [])}, "role": "assistant"}
    choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "message": message, "logprobs": None}
    ids, logprobs = found.token_ids, found.logprobs
    if ids is not None and logprobs is not None and len(ids) == len(logprobs) and all(type(p) is float for p in logprobs):
        tokens: list[dict[str, Any]] = [
            {"token": f"token_id:{i}", "logprob": p, "bytes": None, "top_logprobs": []}
            for i, p in zip(ids, logprobs, strict=True)
        ]
        choice["logprobs"] = {"content": tokens, "refusal": None}
    return choice


def group(line: dict[str, Any]) -> Any:
    """An `art.TrajectoryGroup` of a line. Raises MissingExtra without openpipe-art."""
    if not available("art"):
        raise MissingExtra("making groups for ART", "train")
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
