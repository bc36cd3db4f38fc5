"""What exporters read of a trajectory: the calls of the policy, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..codec import encode
from ..trajectory import Call, Trajectory
from ..types import LLMCall

#: Called with the reason for each thing that gives no row.
LeftOut = Callable[[str], None]


def unfit(t: Trajectory, include_failed: bool = False) -> str | None:
    """Why nothing is trained of a trajectory: it is a replay or, unless these are asked for, failed through the environment."""
    if "replay_of" in t.metadata:
        return "a replay"
    if not include_failed and t.end is not None and t.end.metrics.get("status") == "error_environment":
        return "failed through the environment"
    return None


def tools_of(call: Call) -> str | None:
    """The tools of a call as JSON text, which TRL takes: as a column of structures each would get the fields of all others."""
    return encode(call.tools).decode() if call.tools else None


def policy_calls(trajectory: Trajectory, left_out: LeftOut) -> Iterator[Call]:
    """The calls with purpose `act` that were answered, in order.

    Each is made whole when it is its turn and not kept: the calls of `trajectory.llm_calls` remember their whole prompts,
    which is more than a long session has.
    """
    if not trajectory.llm_calls:
        left_out("no call of a model")
        return
    counted = {call.id for call in trajectory.llm_calls}  # not those that were superseded
    for record in trajectory.complete_records():
        if not isinstance(record, LLMCall) or record.id not in counted:
            continue
        call = Call(record)
        if record.purpose != "act":
            left_out(f"a call for {record.purpose}")
        elif not call.choices:
            left_out("a call without an answer" if record.error is None else "a call that failed")
        else:
            yield call
