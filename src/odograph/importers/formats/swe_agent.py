"""SWE-agent `.traj` files: `trajectory[]{action, observation, response, thought, state}`, `history`, `info`.

Newer files hold the exact messages of each query (`query`, before that `messages`); for older ones the prompt is rebuilt from
`history`, demonstrations included, as the model saw them. A query that was repeated because its answer could not be used stands
in `trajectory` alone. A file with a history and no trajectory is read from that.

Source: https://swe-agent.com/latest/usage/trajectories/ and SWE-agent's `sweagent/types.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash, encode, loads
from ...errors import InvalidInput
from ...prefix import Prefix
from ...shape import arguments, content_text, dicts, integer, items, nanoseconds, number, obj, score, text, without
from ...types import Action, End, LLMCall, Note, Reward, Start, Status, StepStart
from .. import peek
from ..session import Session
from ..verdicts import verdict

NAME = "swe-agent"
_MARKS = ("agent", "message_type", "thought", "action", "is_demo", "tags")  # of a history item; the model is not sent them
_STEP = ("action", "observation", "response", "thought", "execution_time", "state", "query", "messages", "reasoning_content")
_TRUNCATED = ("exit_cost", "exit_context", "exit_total_execution_time", "exit_format", "early_exit")


def recognise(path: Path, head: bytes) -> bool:
    """An object with a `trajectory` of actions, observations and responses; in a `.traj` file a history or attempts too."""
    root, keys = peek.keys(head)
    if root != "{":
        return False
    if keys >= {"trajectory.action", "trajectory.observation", "trajectory.response"}:
        return True
    return path.suffix == ".traj" and not keys.isdisjoint({"trajectory", "history", "attempts"})


def read(path: Path) -> Iterator[Session]:
    """The session of a file; where the agent made several attempts, one each. Raises InvalidInput where there is none."""
    whole = loads(path.read_bytes())
    value = obj(whole)
    attempts = [a for a in dicts(value.get("attempts")) if _has_steps(a)]
    if _has_steps(value):
        # the file's own trajectory is a copy of the attempt that was chosen
        best = integer(obj(value.get("info")).get("best_attempt_idx"))
        others = [(n, a) for n, a in enumerate(attempts) if n != best and a.get("trajectory") != value.get("trajectory")]
        yield _session(path, value, value, best)
    elif attempts:
        others = list(enumerate(attempts))
    else:
        raise InvalidInput("a SWE-agent file without a step: no trajectory, history or attempts with any")
    for number_, attempt in others:
        yield _session(path, attempt, {**without(value, "trajectory", "history", "info"), **attempt}, number_)


def _has_steps(value: dict[str, Any]) -> bool:
    return bool(dicts(value.get("trajectory")) or dicts(value.get("history")))


def _session(path: Path, value: dict[str, Any], whole: dict[str, Any], attempt: int | None) -> Session:
    history, steps = dicts(value.get("history")), dicts(value.get("trajectory"))
    info = obj(value.get("info"))
    replay = _parsed(whole.get("replay_config"))
    problem = obj(replay.get("problem_statement"))
    instance = text(whole.get("instance_id")) or text(problem.get("id"))
    first = next((m for m in history if m.get("role") == "user" and not m.get("is_demo")), {})
    task = content_text(first.get("content")) or text(problem.get("text"))
    session = Session(NAME, instance, attempt, content_hash([task, history[:2] or steps[:1]]))
    for name, found in (("trajectory", steps), ("history", history)):
        if len(found) < len(items(value.get(name))):
            session.warn(f"items of `{name}` that are no objects", len(value[name]) - len(found))
    source = {
        **without(whole, "trajectory", "history", "info", "attempts"),
        **({"attempt": attempt} if attempt is not None else {}),
        "format": NAME,
        "path": path.name,
        "session": instance,
    }
    session.add(
        Start(
            task=task,
            agent="swe-agent",
            agent_version=text(info.get("swe_agent_version")),
            model=text(obj(obj(replay.get("agent")).get("model")).get("name")),
            group=instance if whole.get("attempts") else None,
            metadata={"source": source},
        )
    )
    reader = _Reader(session, history, calls=integer(obj(info.get("model_stats")).get("api_calls")))
    if steps:
        reader.steps(steps)
    else:
        reader.history_alone()
    # of several attempts, the report is of the one that was chosen: the file's own
    _finish(session, info, verdict(path, instance or path.stem) if value is whole else None)
    return session


def _parsed(config: Any) -> dict[str, Any]:
    """`replay_config` is an object, or in newer files the JSON of one."""
    return obj(arguments(config))


def _finish(session: Session, info: dict[str, Any], resolved: Reward | None) -> None:
    review = obj(info.get("review"))
    reviews = (n for n in ("accept", "score") if review.get(n) is not None)
    scores = [Reward(name=f"review_{n}", value=score(review[n]), source="judge", extra=review) for n in reviews]
    session.score(*((one, ()) for one in (*scores, *([resolved] if resolved is not None else []))))
    if not info:
        return
    outcome = text(info.get("exit_status"))
    stats = obj(info.get("model_stats"))
    stated = {
        "llm_calls": integer(stats.get("api_calls")),
        "prompt_tokens": integer(stats.get("tokens_sent")),
        "completion_tokens": integer(stats.get("tokens_received")),
        "cost": number(stats.get("instance_cost")),
    }
    metrics = {**without(info, "submission", "review"), **{k: v for k, v in stated.items() if v is not None}}
    if outcome is None:  # the file was written before the run had ended
        start = session.records[0]
        assert isinstance(start, Start)
        start.metadata["source"]["totals"] = metrics
        return
    session.add(End(status=_status(outcome), answer=info.get("submission"), metrics=metrics))


def _status(outcome: str) -> Status:
    """`submitted (exit_cost)` says that the work so far was submitted when a limit was hit: that is no completion."""
    if outcome in ("submitted", "exit_command"):
        return "completed"
    if any(word in outcome for word in _TRUNCATED):
        return "truncated"
    return "timeout" if "timeout" in outcome else "failed"


class _Reader:
    """Walks the trajectory beside the history, which has an answer of the model for each step that was not repeated."""

    def __init__(self, session: Session, history: list[dict[str, Any]], calls: int | None) -> None:
        self.session = session
        self.history = history
        self.model = next((r.model for r in session.records if isinstance(r, Start)), None)
        #: A count of 0 says that no model was asked: a human, or a replay of one, wrote the answers.
        self.model_was_asked = calls != 0
        self.step = -1
        self.sent: list[Any] = []  # the conversation so far, as sent
        self.done = 0  # history items that are in it
        self._known: dict[bytes, dict[str, Any]] = {}

    def _as_sent(self, message: dict[str, Any]) -> dict[str, Any]:
        """A history item as the model is sent it; equal ones are one object, so that prompts share them."""
        sent = without(message, *_MARKS)
        ids = sent.pop("tool_call_ids", None)
        if items(ids):
            sent["tool_call_id"] = ids[0]
        for name in ("tool_calls", "thinking_blocks"):
            if name in sent and not sent[name]:
                del sent[name]
        return self._known.setdefault(encode(sent), sent)

    def _see(self, stop: int) -> str | None:
        """Takes the history up to `stop` into the conversation; the text of the first that a user or tool said."""
        said: str | None = None
        for item in self.history[self.done : stop]:
            self.sent.append(self._as_sent(item))
            if item.get("role") in ("user", "tool") and not item.get("is_demo"):
                said = said or content_text(item.get("content"))
            if not self.model_was_asked:
                begun = self.step if self.step >= 0 else None
                if item.get("role") == "system" or item.get("is_demo") or begun is not None:
                    self.session.add(Note(name="message", data=item, step=begun))
        self.done = max(self.done, stop)
        return said

    def steps(self, steps: list[dict[str, Any]]) -> None:
        answers = [i for i, m in enumerate(self.history) if m.get("role") == "assistant" and not m.get("is_demo")]
        at = 0  # the next answer of the history
        repeated = False
        for number_, item in enumerate(steps):
            left = len(answers) - at
            same = left > 0 and self.history[answers[at]].get("content") == item.get("response")
            if left > 0 and (same or len(steps) - number_ <= left):
                position = answers[at]
                at += 1
                said = self._see(position)
                self._step(item, self.history[position], said, prompt=self.sent)
                self.sent.append(self._as_sent(self.history[position]))
                self.done = position + 1
                if not (self.model_was_asked or same):  # a person's, told otherwise there
                    self.session.add(Note(name="message", data=self.history[position], step=self.step))
                repeated = False
                continue
            # not in the history: it was asked again; what it was asked then is known for the first try alone
            said = self._see(answers[at]) if left > 0 else self._see(len(self.history))
            self._step(item, {}, said, prompt=None if repeated or not self.sent else self.sent)
            repeated = True
        for item in self.history[self.done :]:
            if item.get("role") == "assistant" and not item.get("is_demo"):
                self.session.warn("answers in the history that no step of the trajectory has")
            elif not item.get("is_demo") and item.get("content") != steps[-1].get("observation"):  # after the last answer
                self.session.add(Note(name="message", data=item, step=self.step))

    def _step(self, item: dict[str, Any], answer: dict[str, Any], said: str | None, prompt: list[Any] | None) -> None:
        self.step += 1
        self.session.add(StepStart(step=self.step, observation=said if self.step == 0 else None))
        exact = next((found for k in ("query", "messages") if (found := [m for m in dicts(item.get(k)) if m])), None)
        if exact is not None:
            prompt = [self._as_sent(m) for m in exact]
        response = item.get("response")
        # what the agent itself wrote into the trajectory when it stopped is no answer of the model
        stopped = isinstance(response, str) and response.startswith(("Exit due to", "Exiting due to")) and exact is None
        call: LLMCall | None = None
        if self.model_was_asked and not stopped and (response is not None or answer):
            message = self._as_sent(answer) if answer else {"role": "assistant", "content": response}
            call = self._call(message, prompt, text(item.get("reasoning_content")) or _thinking(answer))
        thought = text(item.get("thought"))
        extra = {
            "state": item.get("state"),
            "thought": thought if thought and thought not in str(response) else None,
            "response": response if call is None else None,
            **without(item, *_STEP),
        }
        extra = {k: v for k, v in extra.items() if v is not None and v != {}}
        self._action(item, dicts(answer.get("tool_calls")), extra, call)

    def _call(self, message: Any, prompt: list[Any] | None, reasoning: str | None) -> LLMCall:
        call = LLMCall(
            step=self.step,
            dialect="openai.chat",
            model=self.model,
            origin="transcript",
            request={"messages": Prefix(prompt)} if prompt is not None else None,
            response=message,
            reasoning=reasoning,
        )
        return self.session.add(call)

    def _action(self, item: dict[str, Any], asked: list[dict[str, Any]], extra: dict[str, Any], call: LLMCall | None) -> None:
        action, result = item.get("action"), item.get("observation")
        if not isinstance(action, str) or not action.strip():
            if extra or result:
                self.session.add(Note(name="no_action", step=self.step, data={**extra, "observation": result}))
            return
        name, given, id = action.split(None, 1)[0], action, None
        function = obj(asked[0].get("function")) if asked else {}
        if function:
            name, given, id = str(function.get("name") or ""), arguments(function.get("arguments")), text(asked[0].get("id"))
            extra["action"] = action
        if len(asked) > 1:
            self.session.warn("tool calls of an answer after its first, of which the file has no outcome", len(asked) - 1)
        self._act(call, name, given, id, result=result, duration=nanoseconds(item.get("execution_time")), extra=extra or None)

    def history_alone(self) -> None:
        """A file that somebody cut down to its history: each answer is a step, the next message its outcome."""
        waiting: dict[str, Action] = {}
        last: Action | None = None
        for position, item in enumerate(self.history):
            if item.get("role") != "assistant" or item.get("is_demo"):
                ids = items(item.get("tool_call_ids")) or [item.get("tool_call_id")]
                answered = [a for i in ids if (a := waiting.pop(str(i), None)) is not None]
                if not answered and last is not None and item.get("message_type") == "observation" and last.tool_call_id is None:
                    answered = [last]
                for action in answered:
                    self.session.replace(action, result=item.get("content"))
                last = None
                continue
            said = self._see(position)
            self.step += 1
            self.session.add(StepStart(step=self.step, observation=said if self.step == 0 else None))
            message = self._as_sent(item)
            call = self._call(message, self.sent, text(item.get("reasoning_content")) or _thinking(item))
            self.sent.append(message)
            self.done = position + 1
            asked = dicts(item.get("tool_calls"))
            for one in asked:
                function = obj(one.get("function"))
                name, given, id = str(function.get("name") or ""), arguments(function.get("arguments")), text(one.get("id"))
                last = self._act(call, name, given, id, extra={"action": item["action"]} if item.get("action") else None)
                waiting[str(one.get("id"))] = last
            command = text(item.get("action"))
            if not asked and command and command.strip():
                last = self._act(call, command.split(None, 1)[0], command, None)

    def _act(self, call: LLMCall | None, name: str, given: Any, id: str | None, **outcome: Any) -> Action:
        asked_by = call.id if call else None
        return self.session.add(Action(step=self.step, name=name, arguments=given, llm_call=asked_by, tool_call_id=id, **outcome))


def _thinking(message: dict[str, Any]) -> str | None:
    blocks = [b.get("thinking") for b in dicts(message.get("thinking_blocks"))]
    return "\n".join(b for b in blocks if isinstance(b, str)) or None
