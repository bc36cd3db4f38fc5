"""tau2-bench results: `tasks` and `simulations[]{messages, reward_info, ...}`, a list of simulations, or one; trials are a group.

The agent's prompts are rebuilt from its policy (`info.environment_info.policy`, or the simulation's own) and what it was told;
the instructions that the harness puts around the policy are not in the file. What the user simulator said is what
the agent observed; its calls have the purpose `user`, its prompts are not in the file, and its own tools are part of the
environment (notes). A full-duplex (voice) simulation has `ticks` instead of messages; they are kept in a note.

Source: https://github.com/sierra-research/tau2-bench, `src/tau2/data_model/{message,simulation}.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput
from ...shape import added, content_text, dicts, integer, items, nanoseconds, number, obj, score, text, thinking, without
from ...types import End, LLMCall, Note, Reward, Start, Status
from .. import peek
from ..session import Session, parse_time
from ..transcript import Transcript

NAME = "tau2-bench"
_HELD = ("messages", "ticks", "reward_info", "id", "seed", "termination_reason", "agent_cost", "user_cost", "duration")
_SENT = ("role", "content", "tool_calls", "usage", "cost", "raw_data", "timestamp", "turn_idx", "generation_time_seconds")
_STATUS: dict[str, Status] = {
    "user_stop": "completed",
    "agent_stop": "completed",
    "max_steps": "truncated",
    "context_window_exceeded": "truncated",
    "timeout": "timeout",
}


def recognise(path: Path, head: bytes) -> bool:
    """`simulations`, or the run's `info` (the tasks before `simulations` may be long), or the marks of one simulation."""
    root, keys = peek.keys(head)
    if keys >= {"task_id", "termination_reason"} or keys >= {"task_id", "reward_info", "messages"}:
        return root in ("{", "[")
    run = "simulations" in keys or keys >= {"info.environment_info", "info.user_info"}
    # beside a folder of simulations the file is their index
    return root == "{" and run and not ("tasks" in keys and (path.parent / "simulations").is_dir())


def read(path: Path) -> Iterator[Session]:
    """A session per simulation. Raises InvalidInput where there is none."""
    value = loads(path.read_bytes())
    whole = obj(value)
    found = items(whole.get("simulations")) if "simulations" in whole else [whole] if whole else items(value)
    simulations = [s for s in dicts(found) if "task_id" in s or "messages" in s]
    if not simulations:
        raise InvalidInput("a tau2-bench file without a simulation")
    index = path.parent.parent / "results.json"
    run: dict[str, Any] = {}
    if "simulations" in whole:
        run = whole
    elif path.parent.name == "simulations" and index.is_file():
        run = _index(index, index.stat().st_mtime_ns)
    tasks = {str(t.get("id")): t for t in dicts(run.get("tasks"))}
    seen: Counter[str] = Counter()
    for position, simulation in enumerate(simulations):
        reader = _Reader(path, simulation, obj(run.get("info")), tasks, seen)
        if position == 0 and len(simulations) < len(found):
            reader.session.warn("items that are no simulation", len(found) - len(simulations))
        yield reader.session


@lru_cache(maxsize=2)
def _index(path: Path, _changed: int) -> dict[str, Any]:
    """What the simulations of a folder share: the file beside it."""
    try:
        return obj(loads(path.read_bytes()))
    except InvalidInput:
        return {}


class _Reader:
    def __init__(
        self, path: Path, simulation: dict[str, Any], info: dict[str, Any], tasks: dict[str, Any], seen: Counter[str]
    ) -> None:
        messages = dicts(simulation.get("messages"))
        id, task_id = simulation.get("id"), simulation.get("task_id")
        key = content_hash([id, task_id, simulation.get("trial"), messages[:2]])
        seen[key] += 1
        started = parse_time(simulation.get("start_time"))
        self.session = session = Session(NAME, key, seen[key], started=started)
        agent = obj(info.get("agent_info"))
        environment = obj(info.get("environment_info"))
        domain = text(environment.get("domain_name"))
        source = {
            **without(simulation, *_HELD),
            "task": tasks.get(str(task_id)),
            "info": info or None,
            "format": NAME,
            "path": path.name,
            "session": id,
        }
        group = str(task_id) if isinstance(task_id, (str, int)) else None
        first = (content_text(m.get("content")) for m in messages if m.get("role") == "user")
        session.add(
            Start(
                task=next((said for said in first if said), None),
                agent=text(agent.get("implementation")) or "tau2-bench",
                model=text(agent.get("llm")),
                # ids count from 0 in every domain
                group=f"{domain}-{group}" if domain and group is not None else group,
                seed=integer(simulation.get("seed")),
                metadata={"source": {k: v for k, v in source.items() if v is not None}},
                source_time=started,
            )
        )
        if len(messages) < len(items(simulation.get("messages"))):
            session.warn("messages that are no object", len(simulation["messages"]) - len(messages))
        self.transcript = Transcript(session, model=text(agent.get("llm")), tools=items(environment.get("tool_defs")) or None)
        self.user_model = text(obj(info.get("user_info")).get("llm"))
        self.used: dict[str, int | None] = {"prompt_tokens": None, "completion_tokens": None}
        policy = text(simulation.get("policy")) or text(environment.get("policy"))
        if policy and messages:
            self.transcript.saw({"role": "system", "content": policy})
        for message in messages:
            self._message(message)
        self.transcript.close()
        if items(simulation.get("ticks")):
            session.add(Note(name="ticks", data=simulation["ticks"]))
        self._end(simulation)

    def _message(self, message: dict[str, Any]) -> None:
        role = message.get("role")
        when = parse_time(message.get("timestamp"))
        if role == "assistant":
            self._assistant(message, when)
        elif role == "tool":
            for one in dicts(message.get("tool_messages")) or [message]:
                self._tool(one, when)
        else:
            if role == "user":
                self._user(message, when)
            if message.get("content") is not None:
                self.transcript.saw({"role": role, "content": message["content"]}, when=when)

    def _assistant(self, message: dict[str, Any], when: int | None) -> None:
        sent: dict[str, Any] = {"role": "assistant", "content": message.get("content")}
        asked = [
            {"id": c.get("id"), "type": "function", "function": {"name": c.get("name"), "arguments": c.get("arguments")}}
            for c in dicts(message.get("tool_calls"))
        ]
        if asked:
            sent["tool_calls"] = asked
        usage, raw = obj(message.get("usage")), obj(message.get("raw_data"))
        if not usage and not raw and not asked and self.transcript.step < 0:
            # the greeting: the harness wrote it, no model was asked
            self.transcript.begin(when)
            self.transcript.saw(sent)
            self.session.add(Note(name="scripted_message", data=message, step=self.transcript.step, source_time=when))
            return
        more = without(message, *_SENT, "reasoning")
        body = _body(raw, usage)
        if raw and body is None:  # another wire's shape: kept whole beside what the harness made of it
            more["raw_data"] = raw
        call = self.transcript.replied(
            sent,
            response=body,
            when=when,
            duration=nanoseconds(message.get("generation_time_seconds")),
            extra={k: v for k, v in more.items() if v is not None} or None,
            reasoning=text(message.get("reasoning")) or thinking(raw),
            finish_reason=_stopped(raw),
            model=text(raw.get("model")) or self.transcript.model,
            **_usage(usage, message),
        )
        for name in self.used:
            self.used[name] = added(self.used[name], getattr(call, name))

    def _user(self, message: dict[str, Any], when: int | None) -> None:
        usage, raw = obj(message.get("usage")), obj(message.get("raw_data"))
        if usage or raw:
            call = LLMCall(
                agent="user",
                purpose="user",
                origin="transcript",
                dialect="openai.chat",
                model=self.user_model,
                source_time=when,
                response=_body(raw, usage) or {"role": "assistant", "content": message.get("content")},
                duration=nanoseconds(message.get("generation_time_seconds")),
                **_usage(usage, message),
            )
            self.session.add(call)
        for call_ in dicts(message.get("tool_calls")):
            self.session.add(Note(name="user_action", agent="user", data=call_, source_time=when))

    def _tool(self, message: dict[str, Any], when: int | None) -> None:
        if message.get("requestor") == "user":
            self.session.add(Note(name="user_action_result", agent="user", data=message, source_time=when))
            return
        id = text(message.get("id")) or text(message.get("tool_call_id"))
        self.transcript.saw({"role": "tool", "tool_call_id": id, "content": message.get("content")})
        failed = message.get("error")
        ok = not failed if isinstance(failed, bool) else None
        if not self.transcript.result(id, result=message.get("content"), ok=ok):
            self.session.warn("tool messages that answer no call")

    def _end(self, simulation: dict[str, Any]) -> None:
        about = obj(simulation.get("reward_info"))
        if simulation.get("reward_info") is not None:
            self.session.add(Reward(value=score(about.get("reward")), extra=without(about, "reward") or None))
        why = text(simulation.get("termination_reason"))
        metrics = {
            **self.used,
            "cost": number(simulation.get("agent_cost")),
            **{k: simulation[k] for k in ("termination_reason", "user_cost", "duration") if simulation.get(k) is not None},
            "status": "error_environment" if why == "infrastructure_error" else None,
        }
        self.session.add(
            End(
                status="completed" if why is None else _STATUS.get(why, "failed"),
                metrics={k: v for k, v in metrics.items() if v is not None},
                source_time=parse_time(simulation.get("end_time")),
            )
        )


def _body(raw: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any] | None:
    """The model's reply as a whole body: `raw_data` is one, or the choice of one."""
    if "choices" in raw:
        return raw
    return {"choices": [raw], "usage": usage} if "message" in raw else None


def _stopped(raw: dict[str, Any]) -> str | None:
    found = (raw.get("stop_reason"), raw.get("finish_reason"), *(c.get("finish_reason") for c in dicts(raw.get("choices"))))
    return next((f for f in found if isinstance(f, str) and f), None)


def _usage(usage: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    raw = obj(obj(message.get("raw_data")).get("usage"))
    prompt = integer(usage.get("prompt_tokens"))
    if prompt is None and "input_tokens" in raw:  # Anthropic's own count leaves cached ones out
        names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        prompt = added(*(integer(raw.get(n)) for n in names))
    completion = integer(usage.get("completion_tokens"))
    return {
        "usage": usage or raw or None,
        "prompt_tokens": prompt,
        "completion_tokens": completion if completion is not None else integer(raw.get("output_tokens")),
        "cost": number(message.get("cost")),
    }
