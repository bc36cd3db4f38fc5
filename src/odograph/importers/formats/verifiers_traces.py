"""Traces of verifiers v1 (`traces.jsonl`): an episode a line, with a trace per agent; or a trace a line. One trajectory a trace.

A trace is a graph of messages. A sampled node is an answer of the model; the path from the root to the node is its prompt, by
messages and by token ids. A path that a `subagent_call` leads to is a sub-agent's, inside of the step that called it.
`calls` has what each request cost, and the requests that failed. Their `prompt_tokens` leave cached tokens out.

Source: PrimeIntellect-ai/verifiers 0.4, `verifiers.v1.episode` and `verifiers.v1.trace`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...codec import content_hash
from ...prefix import Prefix
from ...shape import added, content_text, dicts, integer, items, nanoseconds, number, obj, score, text, without
from ...types import Action, End, LLMCall, Note, Reward, Start, Status, Tokens
from .. import peek, turns
from ..session import Session, parse_time
from ..transcript import Transcript, described
from .benchmarks import first_row, rows

NAME = "verifiers-traces"
_CUT = ("max_turns", "max_input_tokens", "max_output_tokens", "max_total_tokens", "compaction_failed")
_HELD = ("id", "nodes", "calls", "tools", "rewards", "metrics", "errors", "root_reply", "task", "agent", "traces")
#: Streams beside the logprobs: a number for each sampled token.
_STREAMS = ("advantages", "reference_logprobs", "trainer_logprobs", "entropies", "loss_weights")


def recognise(path: Path, head: bytes) -> bool:
    """An object with a task and traces, or a trace with a task, an agent and nodes."""
    row = first_row(head)
    if row:
        return _is_row(row)
    root, keys = peek.keys(head)
    return root == "{" and (
        keys >= {"env", "env.id", "task", "task.data", "task.type"} or keys >= {"task", "task.data", "agent", "nodes"}
    )


def _is_row(row: dict[str, Any]) -> bool:
    return isinstance(row.get("task"), dict) and (
        (isinstance(row.get("traces"), list) and "env" in row) or (isinstance(row.get("nodes"), list) and "agent" in row)
    )


def read(path: Path) -> Iterator[Session]:
    """A session per trace. Raises InvalidInput where there is none."""
    for row, key, count, warnings in rows(path, _is_row, "episode with traces"):
        episode = row if "traces" in row else {}
        traces = dicts(episode["traces"]) if episode else [row]
        names = {obj(trace.get("agent")).get("name") for trace in traces}
        for number_, trace in enumerate(traces or [{}]):
            id = text(trace.get("id")) or (text(episode.get("id")) if not traces else None)
            session = Session(NAME, id or key, None if id else (count, number_), started=_started(trace))
            if number_ == 0:
                session.warnings.update(warnings)
            _Trace(session, trace).read(path, episode, len(names) > 1)
            yield session


def _started(trace: dict[str, Any]) -> int | None:
    return parse_time(number(obj(trace.get("timing")).get("start")))


class _Place(NamedTuple):
    """Where a node stands: the messages and the token ids up to it (the first of lists that grow), its tools, whose it is."""

    messages: list[Any]
    length: int
    ids: list[int]
    size: int
    own: list[int]
    tools: list[Any]
    agent: str | None


class _Trace:
    """One trace on its way in."""

    def __init__(self, session: Session, trace: dict[str, Any]) -> None:
        self.session = session
        self.trace = trace
        self.nodes = [obj(node) for node in items(trace.get("nodes"))]
        self.calls = dicts(trace.get("calls"))
        self.places: list[_Place] = []
        self.talks: dict[str | None, Transcript] = {}
        self.told: set[int] = set()
        #: The step of each answer, or the one action that it asked for: what a sub-agent was started by.
        self.answers: dict[int, str | None] = {}

    def read(self, path: Path, episode: dict[str, Any], several: bool) -> None:
        self._start(path, episode, several)
        self._answers()
        for talk in self.talks.values():
            talk.close()
        for call in dicts(obj(self.trace.get("info")).get("judge_calls")):
            self._judged(call)
        self._end(episode)

    def _start(self, path: Path, episode: dict[str, Any], several: bool) -> None:
        trace = self.trace
        task, agent = obj(trace.get("task")) or obj(episode.get("task")), obj(trace.get("agent"))
        asked = obj(task.get("data")).get("prompt")
        messages = dicts(asked) + [obj(node.get("message")) for node in self.nodes]
        opened = (content_text(m.get("content")) for m in messages if m.get("role") == "user")
        name = text(agent.get("name"))
        about = {
            "format": NAME,
            "path": path.name,
            "session": trace.get("id"),
            "task": task,
            "agent": without(agent, "name"),
            **without(trace, *_HELD, "info"),
            "info": without(obj(trace.get("info")), "judge_calls") or None,
            "episode": {**without(episode, *_HELD), "id": episode.get("id")} if episode else None,
        }
        self.session.add(
            Start(
                task=asked if isinstance(asked, str) else next((t for t in opened if t), None),
                agent=name,
                model=self._model(),
                group=_group(episode, task, name if several else None),
                policy_version=integer(obj(obj(obj(episode.get("run")).get("work")).get("policy")).get("start")),
                metadata={"source": {k: v for k, v in about.items() if v is not None}},
                source_time=_started(trace),
            ),
            "start",
        )

    def _model(self) -> str | None:
        """The model that was asked first, else the one that the agent is set to."""
        set_to = obj(obj(self.trace.get("agent")).get("config")).get("model")
        asked = (text(call.get("model")) for call in self.calls)
        return next((m for m in asked if m), None) or text(set_to) or text(obj(set_to).get("name"))

    def _answers(self) -> None:
        """The answers in the order in which they came, each behind the calls that failed before it."""
        calls: dict[int, list[dict[str, Any]]] = {}
        waiting: list[dict[str, Any]] = []
        for call in self.calls:
            waiting.append(call)
            node = call.get("node")
            if type(node) is int and 0 <= node < len(self.nodes) and self.nodes[node].get("sampled"):
                calls.setdefault(node, []).extend(waiting)
                waiting = []
        for number_, node in enumerate(self.nodes):
            self._place(node)
            if node.get("sampled"):
                self._answer(number_, node, calls.get(number_, []))
        for number_ in range(len(self.nodes)):  # what no model answered
            self._tell(number_, self.places[number_].agent)
        for call in waiting:
            self._call(self._talk(None), call, None)

    def _place(self, node: dict[str, Any]) -> None:
        """Puts a node behind its parent: on the lists that end there, or on copies where another node went on from there."""
        parent = node.get("parent")
        known = self.places[parent] if type(parent) is int and 0 <= parent < len(self.places) else None
        if known is None and parent is not None:
            self.session.warn("messages whose parent is not in the trace")
        messages, length, ids, size, _, tools, agent = known or ([], 0, [], 0, [], self._tools(node), None)
        if len(messages) > length:
            messages, ids = messages[:length], ids[:size]
        own = items(node.get("token_ids"))
        if not all(type(t) is int for t in own):
            self.session.warn("messages whose token ids are no whole numbers")
            own = []
        messages.append(turns.called(obj(node.get("message"))))
        ids.extend(own)
        for link in dicts(node.get("semantic_parents")):
            starter = self.answers.get(link["node"]) if type(link.get("node")) is int else None
            if link.get("type") == "subagent_call" and starter is not None:
                agent = f"subagent-{max(1, len(self.talks))}"
                self.session.within(agent, starter)
        self.places.append(_Place(messages, len(messages), ids, len(ids), own, tools, agent))

    def _tools(self, root: dict[str, Any]) -> list[Any]:
        return described(dicts(root.get("tools")) or dicts(self.trace.get("tools")))

    def _talk(self, agent: str | None) -> Transcript:
        if agent not in self.talks:
            self.talks[agent] = Transcript(self.session, agent=agent)
        return self.talks[agent]

    def _tell(self, number_: int, agent: str | None) -> None:
        """Tells a message that nobody sampled to the agent that is sent it first."""
        if number_ in self.told:
            return
        self.told.add(number_)
        place, talk = self.places[number_], self._talk(agent)
        message = place.messages[place.length - 1]
        talk.saw(message, when=parse_time(number(self.nodes[number_].get("timestamp"))))
        if message.get("role") == "tool":
            id, result = text(message.get("tool_call_id")), message.get("content")
            if not any(one.result(id, result=result) for one in (talk, *self.talks.values())):
                self.session.warn("tool messages that answer no call")

    def _answer(self, number_: int, node: dict[str, Any], calls: list[dict[str, Any]]) -> None:
        place = self.places[number_]
        new: list[int] = []
        at: Any = node.get("parent")
        while type(at) is int and 0 <= at < number_ and at not in self.told:
            new.append(at)
            at = self.nodes[at].get("parent")
        for before in reversed(new):
            self._tell(before, place.agent)
        self.told.add(number_)
        talk = self._talk(place.agent)
        mine = next((c for c in calls if c.get("node") == number_), {})
        for call in calls:
            if call is not mine:
                self._call(talk, call, place if call.get("node") == number_ else None)
        talk.history = []  # a prompt is a path of the graph, not what was told before
        actions = len(self.session.records)
        fields = {**_figures(mine), **_sampled(node, place), "extra": _beside(mine, node)}
        fields["model"] = fields["model"] or self._model()
        when = fields.pop("source_time") or parse_time(number(node.get("timestamp")))
        reply = talk.replied(place.messages[-1], request=self._request(place, mine), when=when, **fields)
        asked = [r for r in self.session.records[actions:] if isinstance(r, Action)]
        self.answers[number_] = asked[0].id if len(asked) == 1 else reply.parent

    def _request(self, place: _Place, call: dict[str, Any]) -> dict[str, Any]:
        sampling = {k: v for k, v in obj(call.get("sampling")).items() if v is not None}
        tools = {"tools": place.tools} if place.tools else {}
        return {**sampling, "messages": Prefix(place.messages, place.length - 1), **tools}

    def _call(self, talk: Transcript, call: dict[str, Any], place: _Place | None) -> None:
        """A call without an answer of its own: it failed, or (`place`) its answer is another call's word for word."""
        sent: dict[str, Any] = {}
        if place is not None:
            sent = {"request": self._request(place, call), "response": place.messages[place.length - 1], "purpose": "other"}
        record = LLMCall(agent=talk.agent, origin="transcript", dialect="openai.chat", **sent, **_figures(call))
        self.session.add(record)

    def _judged(self, call: dict[str, Any]) -> None:
        answer = obj(call.get("response"))
        usage = obj(answer.get("usage"))
        self.session.add(
            LLMCall(
                origin="transcript",
                dialect="openai.chat",
                purpose="judge",
                model=text(obj(call.get("request")).get("model")),
                request=call.get("request"),
                response=obj(answer.get("message")) or answer,
                extra={"name": call.get("name"), **without(answer, "message", "usage")},
                **_usage(usage),
            )
        )

    def _end(self, episode: dict[str, Any]) -> None:
        trace, session = self.trace, self.session
        rewards = {n: r if isinstance(r, dict) else {"score": r} for n, r in obj(trace.get("rewards")).items()}
        for name, reward in rewards.items():
            weight = number(reward.get("weight", 1.0))
            session.add(
                Reward(
                    name=name,
                    value=score(reward.get("score")),
                    weight=1.0 if weight is None else weight,
                    source="environment",
                    extra=without(reward, "score", "weight") or None,
                ),
                *("reward", name),
            )
        for name, value in obj(trace.get("metrics")).items():
            session.add(Reward(name=name, value=score(value), weight=0, source="function"), "metric", name)
        errors = [*items(trace.get("errors")), *items(episode.get("errors"))]
        for error in errors[:-1]:
            session.add(Note(name="error", data=error))
        stopped = text(trace.get("stop_condition"))
        last = obj(next((c for c in reversed(self.calls) if not c.get("error")), None))
        status: Status = "completed"
        if trace.get("is_timeout") or episode.get("is_timeout"):
            status = "timeout"
        elif stopped in _CUT or last.get("finish_reason") == "length":
            status = "truncated"
        elif errors or not trace.get("ok", episode.get("ok")):
            status = "failed"
        said = [m for p, n in zip(self.places, self.nodes, strict=True) if n.get("sampled") and (m := p.messages[p.length - 1])]
        answer = text(trace.get("root_reply")) or (said[-1].get("content") if said else None)
        spans = obj(trace.get("timing"))
        times = [t for span in spans.values() if (t := number(obj(span).get("end")))]
        session.add(
            End(
                status=status,
                answer=answer,
                error=errors[-1] if errors else None,
                metrics={"stop_condition": stopped} if stopped else {},
                source_time=parse_time(max(times)) if times else None,
            ),
            "end",
        )


def _group(episode: dict[str, Any], task: dict[str, Any], agent: str | None) -> str | None:
    """The consumer's group, else the task: traces of one task are compared, of one agent where an episode has several."""
    of = text(obj(episode.get("group")).get("id"))
    if of is None:
        key = text(task.get("key")) or text(task.get("hash"))
        if key is None:
            data = obj(task.get("data"))
            known = next((data[n] for n in ("id", "idx", "name") if data.get(n) is not None), None)
            key = str(known) if known is not None else content_hash(data)[:16] if data else None
        env = text(obj(episode.get("env")).get("id"))
        of = key if env is None or key is None else f"{env}-{key}"
    return of if agent is None or of is None else f"{of}/{agent}"


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    """What a call cost. `prompt_tokens` leave out those that were read from a cache."""
    return {
        "usage": usage or None,
        "prompt_tokens": added(integer(usage.get("prompt_tokens")), integer(usage.get("cached_input_tokens"))),
        "completion_tokens": integer(usage.get("completion_tokens")),
        "cost": number(usage.get("cost")),
    }


def _figures(call: dict[str, Any]) -> dict[str, Any]:
    span = obj(call.get("time"))
    began, ended = number(span.get("start")) or None, number(span.get("end")) or None
    error = obj(call.get("error"))
    return {
        **_usage(obj(call.get("usage"))),
        "model": text(call.get("model")),
        "finish_reason": text(call.get("finish_reason")),
        "error": error or None,
        "status_code": integer(error.get("status_code")),
        "started": parse_time(began),
        "source_time": parse_time(ended or began),
        "duration": nanoseconds(ended - began) if began and ended else None,
        "extra": _beside(call, {}),
    }


def _beside(call: dict[str, Any], node: dict[str, Any]) -> dict[str, Any] | None:
    """What no field holds of a call and of its answer."""
    found = {k: v for k in ("endpoint", "policy", "acp") if (v := call.get(k)) is not None}
    found |= {k: v for k in _STREAMS if (v := node.get(k)) is not None}
    return found or None


def _sampled(node: dict[str, Any], place: _Place) -> dict[str, Any]:
    """The token ids of an answer's prompt and of the answer: from the first sampled token to the last."""
    mask, logprobs = items(node.get("mask")), items(node.get("logprobs"))
    sampled = [n for n, trained in enumerate(mask) if trained is True]
    if not sampled or len(mask) != len(place.own):
        return {}
    first, last = sampled[0], sampled[-1] + 1
    of = dict(zip(sampled, logprobs, strict=True)) if len(logprobs) == len(sampled) else {}
    return {
        "prompt_token_ids": Prefix(place.ids, place.size - len(place.own) + first),
        "tokens": [Tokens(token_ids=place.own[first:last], logprobs=[of.get(n) for n in range(first, last)] if of else None)],
        "logprobs_of": "sampled" if of else "unknown",
    }
