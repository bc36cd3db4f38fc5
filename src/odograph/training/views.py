"""What exporters read of a trajectory: the calls of the policy, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from .. import dialects
from ..calls import Call
from ..codec import encode, loads
from ..dialects import Choice
from ..dialects.content import as_text, is_media, is_part
from ..errors import InvalidInput
from ..quality import CHECKS, Checker
from ..trajectory import Trajectory
from ..types import LLMCall
from .sample import Pair

#: Why a call is left out of formats that a chat template renders.
NO_OBJECT = "a tool call whose arguments are no JSON object"
#: What a text has a mark in place of.
NO_TEXT = "a part of a message that is no text"
#: Why a call of several prompts gives no row of text.
BATCH = "a call of several prompts at once, which formats of tokens alone tell apart"
#: Called with the reason for each thing that gives no row.
LeftOut = Callable[[str], None]


def unfit(t: Trajectory, include_failed: bool = False) -> str | None:
    """Why nothing is trained of a trajectory: it is a replay or, unless these are asked for, failed through the environment."""
    if "replay_of" in t.metadata:
        return "a replay"
    if not include_failed and t.end is not None and t.end.metrics.get("status") == "error_environment":
        return "failed through the environment"
    return None


def invalid(t: Trajectory) -> str | None:
    """Why a trajectory must not be trained on: the first error of the profile `rl`, rewards that are not known aside."""
    return next((f"invalid: {f.code}" for f in _checker().one(t, compared=False)[0] if f.severity == "error"), None)


@cache
def _checker() -> Checker:
    """The checks that find errors. A reward that is missing or no number is not known, which has a rule of its own."""
    warnings = {c.code for c in CHECKS.values() if c.severity == "warning" and "rl" not in c.errors_in}
    return Checker("rl", warnings | {"reward_missing", "reward_nonfinite"}, None)


def tools_of(call: Call | Pair) -> str | None:
    """The tools of a call as JSON text, which TRL takes: as a column of structures each would get the fields of all others."""
    return encode(call.tools).decode() if call.tools else None


def rendered(messages: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Messages as chat templates render them: the arguments of tool calls are objects. None where they can't be: they are no
    JSON object."""
    out: list[dict[str, Any]] = []
    for message in messages:
        content = message.get("content")
        if not (content is None or isinstance(content, str)) and not (isinstance(content, list) and all(map(is_part, content))):
            message = {**message, "content": as_text(content)}  # a template takes text, or parts
        calls = message.get("tool_calls")
        if not isinstance(calls, list) or not calls:
            out.append(message)
            continue
        made = []
        for call in calls:
            function = call.get("function") if isinstance(call, dict) else None
            arguments = function.get("arguments") if isinstance(function, dict) else None
            if isinstance(arguments, str):
                try:
                    arguments = loads(arguments) if arguments.strip() else {}
                except InvalidInput:
                    return None
            if not isinstance(function, dict) or not isinstance(arguments, dict):
                return None
            made.append({**call, "function": {**function, "arguments": arguments}})
        out.append({**message, "tool_calls": made})
    return out


def unsaid(choice: Choice) -> str | None:
    """Why an answer gives no text to train on, where it gives none."""
    if choice.text.strip() or choice.tool_calls or _says(choice.message.get("content")):
        return None
    if choice.reasoning:
        return "an answer of reasoning alone"
    return "an answer whose text is not known" if choice.token_ids else "an answer without text or tool call"


def answer_of(choice: Choice) -> dict[str, Any]:
    """An answer as a message: what it says in another field than its content, a refusal say, is its content."""
    message = {**choice.message, "role": "assistant", "content": told(choice.message.get("content"))}
    return {**message, "content": choice.text} if message.get("content") in (None, []) and choice.text else message


def _says(content: Any) -> bool:
    return bool(as_text(told(content)).strip()) if isinstance(content, list) else False


def told(content: Any) -> Any:
    """A content of an answer without its parts that are no text: an answer is trained on its text alone."""
    return [p for p in content if not is_media(p)] if isinstance(content, list) else content


def is_batch(call: Call) -> bool:
    """Whether a call has several prompts: its messages are not one conversation."""
    return dialects.of_response(call.answered.response, call.dialect).prompts(call.sending) > 1


def answered_calls(trajectory: Trajectory, left_out: LeftOut) -> Iterator[Call]:
    """The calls of the policy whose answers give text, or tool calls: no row has an empty answer, and a reward for it."""
    for call in policy_calls(trajectory, left_out):
        why = unsaid(call.choices[0])
        if why is None:
            yield call
        else:
            left_out(why)


def policy_calls(trajectory: Trajectory, left_out: LeftOut) -> Iterator[Call]:
    """The calls with purpose `act` that were answered, in order.

    Each is made anew: the calls of `trajectory.llm_calls` remember what they were asked for, which may be whole prompts.
    """
    if not trajectory.llm_calls:
        left_out("no call of a model")
        return
    counted = {call.id for call in trajectory.llm_calls}  # not those that were superseded
    for record in trajectory.records:
        if not isinstance(record, LLMCall) or record.id not in counted:
            continue
        call = trajectory.call(record)
        if call.purpose != "act":
            left_out(f"a call for {call.purpose}")
        elif not call.choices:
            left_out("a call without an answer" if call.error is None else "a call that failed")
        elif is_batch(call):
            left_out(BATCH)
        else:
            yield call
