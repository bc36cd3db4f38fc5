"""tau2-bench results: `tasks` and `simulations[]{messages, reward_info, ...}`, or one simulation; a task's trials are a group.

The user simulator's own prompts are not in the file: what it said is what the agent observed. A full-duplex simulation
has `ticks` instead of messages; they are kept in a note.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..codec import content_hash, loads, tagged
from ..errors import InvalidInput
from ..types import End, Note, Reward, Start
from .session import Session, parse_time
from .shape import dicts, integer, items, number, obj, text, without
from .transcript import Transcript

NAME = "tau2-bench"
_OWN = ("messages", "ticks", "reward_info", "task_id", "id", "start_time", "end_time", "termination_reason", "timestamp")


def recognise(path: Path, head: bytes) -> bool:
    """`simulations` with the run's `info`, or one simulation's marks."""
    if head.lstrip()[:1] not in (b"{", b"["):
        return False
    if b'"simulations"' in head and (b'"task_id"' in head or b'"num_trials"' in head or b'"environment_info"' in head):
        return True
    if b'"environment_info"' in head and b'"user_info"' in head:
        return True
    return b'"task_id"' in head and b'"termination_reason"' in head and b'"start_time"' in head


def read(path: Path) -> Iterator[Session]:
    """A session per simulation. Raises InvalidInput where there is none."""
    value = loads(path.read_bytes())
    whole = obj(value)
    simulations = dicts(whole.get("simulations")) if "simulations" in whole else dicts(value) or [whole]
    simulations = [s for s in simulations if "task_id" in s]
    if not simulations:
        raise InvalidInput("a tau2-bench file without a simulation")
    tasks = {str(t.get("id")): t for t in dicts(whole.get("tasks"))}
    info = obj(whole.get("info"))
    agent = obj(info.get("agent_info"))
    policy = obj(info.get("environment_info")).get("policy")
    for simulation in simulations:
        yield _session(path, simulation, tasks, info, text(agent.get("llm")), policy)


def _session(
    path: Path, simulation: dict[str, Any], tasks: dict[str, Any], info: dict[str, Any], model: str | None, policy: Any
) -> Session:
    messages = [m for m in dicts(simulation.get("messages")) if isinstance(m.get("role"), str)]
    started = parse_time(simulation.get("start_time"))
    session = Session(NAME, simulation.get("id"), content_hash([simulation.get("task_id"), messages[:2]]), started=started)
    first = next((m.get("content") for m in messages if m.get("role") == "user" and isinstance(m.get("content"), str)), None)
    source: dict[str, Any] = {
        "format": NAME,
        "path": path.name,
        "session": simulation.get("id"),
        "task": tasks.get(str(simulation.get("task_id"))),
        "info": info or None,
        **without(simulation, *_OWN),
    }
    session.add(
        Start(
            task=first,
            agent=text(obj(info.get("agent_info")).get("implementation")) or "tau2-bench",
            model=model,
            group=str(simulation.get("task_id")),
            seed=integer(simulation.get("seed")),
            metadata={"source": {k: v for k, v in source.items() if v is not None}},
            source_time=started,
        )
    )
    transcript = Transcript(session, model=model)
    if isinstance(policy, str) and messages:
        transcript.saw({"role": "system", "content": policy})
    for message in messages:
        _message(session, transcript, message)
    if items(simulation.get("ticks")):
        session.add(Note(name="ticks", data=simulation["ticks"]))
    _outcome(session, simulation)
    return session


def _message(session: Session, transcript: Transcript, message: dict[str, Any]) -> None:
    when = parse_time(message.get("timestamp"))
    role = message["role"]
    if role == "assistant":
        calls = [
            {"id": c.get("id"), "type": "function", "function": {"name": c.get("name"), "arguments": c.get("arguments")}}
            for c in dicts(message.get("tool_calls"))
        ]
        sent: dict[str, Any] = {"role": "assistant", "content": message.get("content")}
        if calls:
            sent["tool_calls"] = calls
        usage = obj(message.get("usage"))
        if message.get("usage") is None and message.get("raw_data") is None and not calls and transcript.step < 0:
            transcript.begin(when)  # the greeting is part of the harness: no model said it
            transcript.saw(sent)
            session.add(Note(name="scripted_message", data=message, step=transcript.step, source_time=when))
            return
        raw = obj(message.get("raw_data"))
        body = {"choices": [raw], "usage": usage} if "message" in raw else raw if "choices" in raw else None
        transcript.replied(
            sent,
            when=when,
            response=body,
            usage=usage or None,
            prompt_tokens=integer(usage.get("prompt_tokens")),
            completion_tokens=integer(usage.get("completion_tokens")),
            cost=number(message.get("cost")),
            reasoning=text(message.get("reasoning")),
        )
    elif role == "tool":
        for one in dicts(message.get("tool_messages")) or [message]:
            if one.get("requestor") == "user":
                session.add(Note(name="user_tool_result", data=one, source_time=when))
                continue
            transcript.saw({"role": "tool", "tool_call_id": one.get("id"), "content": one.get("content")})
            failed = one.get("error")
            ok = None if not isinstance(failed, bool) else not failed
            if not transcript.result(text(one.get("id")), result=one.get("content"), ok=ok):
                session.warn("tool messages that answer no call")
    else:
        if dicts(message.get("tool_calls")):
            session.add(Note(name="user_tool_calls", data=message, source_time=when))
        if message.get("content") is not None:
            transcript.saw({"role": role, "content": message["content"]})
        more = {k: message[k] for k in ("usage", "cost") if message.get(k) is not None}
        if role == "user" and more:
            session.add(Note(name="user_simulator", data=more, source_time=when))


def _outcome(session: Session, simulation: dict[str, Any]) -> None:
    about = obj(simulation.get("reward_info"))
    if simulation.get("reward_info") is not None:
        reward = about.get("reward")
        value: Any = number(reward)
        if value is None and isinstance(reward, float):
            value = tagged("float", str(reward))
        session.add(Reward(value=value, extra=without(about, "reward") or None))
    why = text(simulation.get("termination_reason"))
    status: Any = "completed" if why in ("user_stop", "agent_stop", None) else "truncated" if why == "max_steps" else "failed"
    metrics = {
        k: simulation[k] for k in ("termination_reason", "agent_cost", "user_cost", "duration") if simulation.get(k) is not None
    }
    session.add(End(status=status, metrics=metrics, source_time=parse_time(simulation.get("end_time"))))
