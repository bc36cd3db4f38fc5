"""The tools that an answer asks for: decided on, used at once, recorded, and told to the model. Asks no model itself."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import msgspec

from ..capture.scope import Acting, Step
from ..codec import encode
from ..dialects import Result, ToolCall
from ..errors import InvalidInput, RunError, described
from ..trajectory import HANDOFF
from .conversation import State, transfer
from .hooks import Decided, ToolUse, told
from .recorded import BEGUN, PUT, asked_as, told_again
from .showing import Shown, seen
from .task import AnyAgent, Outcome
from .timing import TooLate, ToolError, whole, within
from .tools import ToolContext, arguments_of, using
from .walk import Walk


async def use_all(state: State[Any], step: Step) -> Outcome:
    """Uses the tools that were asked for and have no result yet: what the model sees next."""
    waiting = [i for i in range(len(state.pending)) if i not in state.done]
    decided = await _decided(state, step, waiting)

    async def use(index: int) -> None:
        state.done[index] = await _use(state, step, state.pending[index], decided.get(index))

    if len(waiting) == 1:
        await use(waiting[0])
    else:
        await asyncio.gather(*map(use, waiting))
    results = [state.done[i] for i in range(len(state.pending))]
    state.used = True
    state.history = [*state.history, *state.results(results)]
    if state.queue:
        state.put(PUT, state.queue)
    handoff, state.queue = state.handoff, []
    state.settle()
    if handoff is not None:
        state.adopt(handoff[0])
        await state.connect()
    observation = [{k: v for k, v in msgspec.to_builtins(r).items() if k != "images" or v} for r in results]
    return Outcome(observation=observation, handoff=handoff)


async def _decided(state: State[Any], step: Step, waiting: list[int]) -> dict[int, Decided]:
    """Lets the callables see the tool calls, one after the other, before any is used."""
    decided: dict[int, Decided] = {}
    hooks = (state.agent.on_tool, state.task.conf.on_tool)
    if state.task._turns is None and not any(hooks):
        return decided
    for index in waiting:
        asked = state.pending[index]
        if state.task._turns is not None:  # a replay does what was decided
            found = state.task.decided(asked)
        else:
            use = ToolUse(state.agent.name, state.task, step, asked)
            await told(hooks, use)
            found = use.decided
        if found is not None:
            decided[index] = found
    changed = {i: d.call for i, d in decided.items() if d.what == "changed"}
    if changed:
        state.pending = [changed.get(i, asked) for i, asked in enumerate(state.pending)]
        if state.last is not None:
            state.revise(state.last, state.last.edits, {**state.last.calls, **changed})
    return decided


async def _use(state: State[Any], step: Step, asked: ToolCall, decided: Decided | None) -> Result:
    """One call of a tool, recorded. What goes wrong in it is what the model sees."""
    agent = state.agent
    told_of: dict[str, Any] = {"decision": decided.told()} if decided is not None else {}
    about: dict[str, Any] = {"llm_call": state.asked_by, "tool_call_id": asked.id}
    refused = decided if decided is not None and decided.what == "refused" else None
    try:
        arguments = arguments_of(asked.arguments)
    except InvalidInput as error:
        if refused is not None:
            return _refused(agent, step, asked, asked.arguments, refused, about)
        result = _result(agent, asked, f"error: {error}", ok=False)
        step.action(asked.name, asked.arguments, error=error, metadata={"content": result.content, **told_of}, **about)
        return result
    if refused is not None:
        return _refused(agent, step, asked, arguments, refused, about)
    to = next((a for a in agent.handoffs if transfer(a) == asked.name), None)
    with step.acting(asked.name, arguments, **about) as action:
        action.purpose = "tool"
        known = state.known(asked if decided is None else decided.asked)
        if to is not None and state.handoff is None:
            state.handoff = (to, action.id)
            action.result = text = f"{to.name} takes over."
            told_of[HANDOFF] = to.name
        elif known is not None:
            action.result, action.ok, text = known.content, known.ok, told_again(known)
        elif asked.name in agent.once and not state.begin_once(asked):
            action.ok, action.error = False, "it was begun before the run was cut off, and is not repeated"
            text = f"error: {asked.name} was begun before the run was cut off; whether it was done is not known"
        else:
            if asked.name in agent.once:
                step.note({"tool": asked.name, "call": asked_as(asked)}, name=BEGUN)
            text = await _call(state, asked, arguments, action)
        result = _result(agent, asked, text, ok=action.ok is not False)
        plain = action.result if isinstance(action.result, str) else encode(action.result).decode()
        if action.ok is False or action.result is None or result.content != plain:
            told_of["content"] = result.content  # what the model sees, where that is not the result itself
        action.metadata = told_of or None
    return result


def _refused(agent: Any, step: Step, asked: ToolCall, arguments: Any, decided: Decided, about: dict[str, Any]) -> Result:
    """A call that was refused: what the model sees is what whoever refused it says."""
    result = _result(agent, asked, decided.result if isinstance(decided.result, str) else seen(decided.result), ok=False)
    error = {"type": "refused", "message": decided.why.get("reason") or result.content}
    more = {"content": result.content, "decision": decided.told()}
    step.action(asked.name, arguments, ok=False, error=error, metadata=more, **about)
    return result


async def _call(state: State[Any], asked: ToolCall, arguments: dict[str, Any], action: Acting) -> str:
    limit = state.task.conf.tool_timeout or state.agent.tool_timeout
    action.ok = False
    try:
        tool = state.tools.get(asked.name)
        if tool is None:
            raise ToolError(f"no tool {asked.name!r}; there are: {', '.join(state.tools) or 'none'}")
        if tool.agent is not None:
            result, text = await _delegate(state, tool.agent, arguments, action)
        else:
            told_of = ToolContext(state.task.context, state.task, state.agent.name, asked.id, action)
            token = using.set(told_of)
            try:
                result, text = await within(tool.call(arguments), limit)
            finally:
                using.reset(token)
    except (ToolError, InvalidInput, RunError) as error:
        action.error = error
        return f"error: {error}"
    except (asyncio.CancelledError, GeneratorExit) as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        action.error = error  # it came from within the tool
        return f"error: {described(error)}"
    except TooLate:
        action.error = TimeoutError(f"no answer within {limit:g} s")
        return f"error: no answer within {limit:g} s"
    except Exception as error:
        action.error = error
        return f"error: {whole(error)}"
    action.result, action.ok = result, True
    return text


async def _delegate(state: State[Any], agent: AnyAgent, arguments: dict[str, Any], action: Acting) -> tuple[Any, str]:
    """Another agent does a task of its own, inside of the action, within what is left of the whole task's bounds."""
    if "input" not in arguments:
        raise ToolError("parameter 'input' is missing")
    task = copy.copy(state.task)
    task.input, task.agent, task._session, task._remembered = arguments["input"], agent, None, []
    task.conf = msgspec.structs.replace(task.conf, on_text=None)
    limit = getattr(agent, "max_steps", None) or 100
    most, budget = task.conf.max_steps, task.conf.max_tokens
    walk = Walk(agent, task, action.sub_agent(agent.name))
    try:
        for _ in range(limit):
            if most is not None and action.recorder.opened >= most:
                raise ToolError(f"none of the {most} steps of this task is left for {agent.name}")
            if budget is not None and action.recorder.spent >= budget:
                raise ToolError(f"none of the {budget} tokens of this task is left for {agent.name}")
            outcome = await walk.step()
            if outcome.finished:
                break
        else:
            raise ToolError(f"{agent.name} came to no end within {limit} steps")
    finally:
        await walk.close()
    if outcome.status != "completed":
        raise ToolError(f"{agent.name} {outcome.status}: {outcome.error}")
    return outcome.answer, seen(outcome.answer)


def _result(agent: Any, asked: ToolCall, text: str, ok: bool = True) -> Result:
    images = text.images if isinstance(text, Shown) else []
    text = seen(text)
    if len(text) > agent.max_tool_output:
        half = agent.max_tool_output // 2
        text = f"{text[:half]}\n... ({len(text) - 2 * half} characters left out) ...\n{text[-half:]}"
    return Result(tool_call_id=asked.id, name=asked.name, content=text, ok=ok, images=images)
