"""Spans of one session -> records: who acted in which step, what was asked, read and done, each thing once.

Spans come at their end, so children stand before parents, and a parent may never come. A later look at more spans of the session
gives the same records the same ids, so adding them again adds what is new and corrects what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import msgspec

from .. import dialects
from ..codec import content_hash, encode
from ..dialects.content import as_text, is_part
from ..prefix import Prefix
from ..shape import arguments, items, obj, text
from ..totals import NONE_COUNTS, counting
from ..types import Action, Context, End, LLMCall, Note, Record, Reward, Start, StepStart
from . import chat, odograph
from .common import dialect_of, exception, session_of
from .rooms import JOINED, meaning
from .span import Meaning, TraceSpan

_R = TypeVar("_R", bound=Record)
#: Ids of tool calls; some emitters write none.
_ID = (str, type(None))


class Sink(Protocol):
    """Takes records in under the source's own names: `importers.Session` is one."""

    def add(self, record: _R, *key: Any) -> _R: ...
    def id_of(self, *key: Any) -> str: ...
    def within(self, agent: str | None, record: str | None) -> None: ...
    def replace(self, record: _R, **changes: Any) -> _R: ...
    def warn(self, what: str, count: int = 1) -> None: ...


def groups(spans: Iterable[TraceSpan]) -> list[tuple[tuple[str, ...], list[TraceSpan]]]:
    """The spans of each session, under the session's key: its conversation or session where a span of the trace names one (and
    the service, because sessions of two services may share a name), else the trace. What holds no call, tool or reading is no
    session. The name nearest to the root counts: an agent that is called by another may have a conversation of its own."""
    traces: dict[str, list[TraceSpan]] = {}
    for number, span in enumerate(spans):
        alone = session_of(span) if not span.trace else None
        traces.setdefault(span.trace or f"\0{alone if alone is not None else number}", []).append(span)
    found: dict[tuple[str, ...], list[TraceSpan]] = {}
    for trace, inside in traces.items():
        depths = _depths(inside)
        named = [(depths[s.id], s.start or 0, name, _service(s)) for s in inside if (name := session_of(s)) is not None]
        key = ("session", *min(named)[2:]) if named else ("trace", trace if not trace.startswith("\0") else inside[0].id)
        found.setdefault(key, []).extend(inside)
    return [(key, inside) for key, inside in found.items() if any(map(_says_something, inside))]


def _service(span: TraceSpan) -> str:
    return str(span.resource.get("service.name") or "")


def _says_something(span: TraceSpan) -> bool:
    found = meaning(span)
    return found.kind in ("call", "tool", "read", "note") or bool(found.fields.get("conversation")) or odograph.is_own(span)


def _depths(spans: list[TraceSpan]) -> dict[str, int]:
    parents = {s.id: s.parent for s in spans}
    depths: dict[str, int] = {}
    for span in spans:
        path: list[str] = []
        at: str | None = span.id
        while at is not None and at in parents and at not in depths and at not in path[-64:]:
            path.append(at)
            at = parents[at]
        depth = depths.get(at, -1) if at is not None else -1
        for id in reversed(path):
            depth += 1
            depths[id] = depth
    return depths


def write(spans: Iterable[TraceSpan], into: Sink, source: dict[str, Any]) -> set[str]:
    """The records of one session into a sink. `source` says where the spans came from; it becomes `metadata.source`.

    Returns the ids of all records that an earlier look at some of these spans may have made: those that are not in the sink are
    told otherwise now.
    """
    given = list(spans)
    if all(map(odograph.is_own, given)):
        odograph.write(given, into, source)
        return set()
    assembly = _Assembly(given, into)
    assembly.write(source)
    return assembly.possible()


class _Assembly:
    def __init__(self, spans: Iterable[TraceSpan], into: Sink) -> None:
        self.into = into
        self._latest: dict[tuple[str, str], TraceSpan] = {}
        for span in spans:  # an exporter that retries sends the same span again
            before = self._latest.get((span.trace, span.id))
            if before is None or (span.end or 0) >= (before.end or 0):
                self._latest[span.trace, span.id] = span
        ordered = sorted(self._latest.values(), key=lambda s: (s.start or 0, -(s.end or 0), s.id))
        for join in JOINED:
            ordered = join(ordered)
        self.spans = ordered
        self.by_id = {(s.trace, s.id): s for s in ordered}
        self.meanings: dict[tuple[str, str], Meaning] = {(s.trace, s.id): meaning(s) for s in ordered}
        self._believe_each_call_once()
        self.agents = {(s.trace, s.id): self._agent_of(s) for s in ordered}
        #: The agent of the run: the first that acts in no other's span. Its records have no agent of their own.
        self.own = next((a for s in ordered if (a := self.agents[s.trace, s.id]) is not None), None)
        #: Spans that hold a call.
        self.with_calls = {(a.trace, a.id) for s in ordered if self._kind(s) == "call" for a in self._above(s)}
        self.steps: dict[str | None, int] = {}
        self.waiting: dict[str | None, list[TraceSpan]] = {}
        #: Tool calls that no action answered yet, by agent: (id, name, arguments, record of the call).
        self.asked: dict[str | None, list[tuple[Any, Any, Any, str]]] = {}
        #: The ids of the tool calls that have spans of their own, and the names of tools whose spans name no call.
        self.done: set[Any] = {fields.get("tool_call_id") or ("name", fields.get("name")) for fields in self._of_kind("tool")}

    # --- the tree ------------------------------------------------------------------------------------------------------

    def _above(self, span: TraceSpan) -> Iterable[TraceSpan]:
        """The spans that a span is in, the nearest first."""
        met = {span.id}
        at = self.by_id.get((span.trace, span.parent or ""))
        while at is not None and at.id not in met:
            yield at
            met.add(at.id)
            at = self.by_id.get((at.trace, at.parent or ""))

    def possible(self) -> set[str]:
        """The ids of the records that these spans may be, or were before others of the same request came."""
        found: set[str] = set()
        for key, known in ((key, self.meanings.get(key, Meaning(kind="noise"))) for key in self._latest):
            call = self.into.id_of("span", *key)
            found |= {call, self.into.id_of("step", *key), self.into.id_of("totals", "span", *key)}
            answer = known.fields.get("response") if known.kind == "call" else None
            found |= {self.into.id_of("result", call, id) for id, _, _ in _calls_of(answer)}
            for number, message in enumerate(items(known.fields.get("conversation"))):
                found |= {self.into.id_of(number, "span", *key), self.into.id_of("step", *key, number)}
                found |= {self.into.id_of("action", number, id, "span", *key) for id, _, _ in _calls_of(message)}
        return found

    def _of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [found.fields for found in self.meanings.values() if found.kind == kind]

    def _kind(self, span: TraceSpan) -> str:
        return self.meanings[span.trace, span.id].kind

    def _believe_each_call_once(self) -> None:
        """Two instrumentations tell of one call twice, the outer span around the inner: the inner one is the call, but where the
        outer one says more of it."""
        inner: dict[tuple[str, str], list[TraceSpan]] = {}
        for span in self.spans:
            if self._kind(span) != "call":
                continue
            for above in self._above(span):
                if self._kind(above) in ("tool", "agent"):
                    break
                if self._kind(above) == "call":
                    inner.setdefault((above.trace, above.id), []).append(span)
        for key, held in inner.items():
            outer = self.meanings[key]
            if len(held) == 1 and _content(outer) > _content(self.meanings[held[0].trace, held[0].id]):
                self.meanings[held[0].trace, held[0].id] = Meaning(kind="holder")
                continue
            self.meanings[key] = Meaning(
                kind="holder", agent=outer.agent, about=outer.about, totals=outer.fields.get("usage") or {}
            )
        beside: dict[tuple[str, str], dict[str, TraceSpan]] = {}  # the latest of each instrumentation, by trace and response
        for span in self.spans:
            if self._kind(span) != "call" or (answer := _response_of(span, self.meanings[span.trace, span.id])) is None:
                continue
            known = beside.setdefault((span.trace, answer), {})
            same = next((s for scope, s in known.items() if scope != span.scope and _at_once(s, span)), None)
            known[span.scope] = span
            if same is not None:
                less = min(same, span, key=lambda s: _content(self.meanings[s.trace, s.id]))
                self.meanings[less.trace, less.id] = Meaning(kind="holder")
                del known[less.scope]

    def _agent_of(self, span: TraceSpan) -> str | None:
        found = self.meanings[span.trace, span.id].agent
        if found is not None:
            return found
        return next(
            (name for above in self._above(span) if (name := self.meanings[above.trace, above.id].agent) is not None), None
        )

    def _who(self, span: TraceSpan) -> str | None:
        agent = self.agents[span.trace, span.id]
        return None if agent == self.own else agent

    # --- the records ---------------------------------------------------------------------------------------------------

    def write(self, source: dict[str, Any]) -> None:
        roots = [s for s in self.spans if (s.trace, s.parent or "") not in self.by_id]
        self._start(roots, source)
        for agent in dict.fromkeys(self._who(s) for s in self.spans):
            self._begin_inside(agent)
        scores: dict[bool, list[Reward]] = {False: [], True: []}  # of the run, and of something inside of it
        for found in self.meanings.values():
            for reward in found.rewards:
                scores[_is_inside(found, reward)].append(Reward(**reward))
        # what has a weight already only monitors: feedback that another overrides, and words
        counts = {inside: counting(r for r in given if r.weight) for inside, given in scores.items()}
        if any(r.weight for r in scores[False]) and counts[False] is None:
            self.into.warn(NONE_COUNTS)
        for span in self.spans:
            found = self.meanings[span.trace, span.id]
            match found.kind:
                case "call":
                    self._call(span, found)
                case "tool":
                    self._tool(span, found)
                case "read":
                    self.waiting.setdefault(self._who(span), []).append(span)
                case "note":
                    self._note(span, found)
                case "agent" if found.fields.get("conversation") and (span.trace, span.id) not in self.with_calls:
                    self._conversation(span, found)
                case _:
                    pass
            for reward in found.rewards:
                inside = _is_inside(found, reward)
                target = self.into.id_of("span", span.trace, span.id) if inside else None
                about = obj(reward.get("extra"))
                known = obj(about.get("score")).get("id") or obj(about.get("assessment")).get("assessment_id")
                key = known or (reward["name"] if "feedback" in about else content_hash(reward))
                weight = float(reward["name"] == counts[inside])
                self.into.add(Reward(**{"target": target, "weight": weight} | reward), "reward", span.trace, span.id, key)
        for span in self.spans:  # behind all that is inside of them, as they come
            found = self.meanings[span.trace, span.id]
            if found.kind in ("agent", "holder") and found.totals:
                data = {"span": span.id, "name": span.name, "totals": found.totals}
                self._add(Note(name="totals", data=data, agent=self._who(span), source_time=span.end), span, "totals")
        for agent in list(self.waiting):
            self._read(agent, self.steps.get(agent))
        self._end(roots)

    def _start(self, roots: list[TraceSpan], source: dict[str, Any]) -> None:
        about: dict[str, Any] = {}
        for span in self.spans:
            about = self.meanings[span.trace, span.id].about | about
        meant = (self.meanings[s.trace, s.id] for s in self.spans)
        task = next((m.task for s in self.spans if (m := self.meanings[s.trace, s.id]).task is not None), None)
        fields = next((m.fields for m in meant if m.kind == "call" and "purpose" not in m.fields), {})
        if task is None:
            sent = _messages(fields)
            task = next((m.get("content") for m in sent if m.get("role") == "user"), None)
        if isinstance(task, list) and task and all(map(is_part, task)):
            task = as_text(task)
        task = chat.asked(task)
        tags = about.pop("tags", [])
        told = {**source, "traces": list(dict.fromkeys(s.trace for s in self.spans if s.trace)), **about}
        totals = self._totals()
        if totals:
            told["totals"] = totals
        resource = next((s.resource for s in self.spans if s.resource), None)
        if resource:
            told["resource"] = resource
        start = Start(
            task=task, agent=self.own, model=fields.get("model"), tags=tags, source_time=roots[0].start if roots else None
        )
        self.into.add(msgspec.structs.replace(start, metadata={"source": told}), "start")

    def _totals(self) -> dict[str, int]:
        """Tokens of runs whose calls have no spans."""
        told = [
            self.meanings[s.trace, s.id]
            for s in self.spans
            if self._kind(s) == "agent" and (s.trace, s.id) not in self.with_calls
        ]
        sums: dict[str, int] = {}
        for found in told:
            for name, ends in (("prompt_tokens", ".input_tokens"), ("completion_tokens", ".output_tokens")):
                value = next((v for k, v in found.totals.items() if k.endswith(ends) and type(v) is int), None)
                if value is not None:
                    sums[name] = sums.get(name, 0) + value
        return sums

    def _begin_inside(self, agent: str | None) -> None:
        """A sub-agent's parent is the action that it was started in."""
        first = next((s for s in self.spans if self._who(s) == agent), None)
        if agent is None or first is None:
            return
        tool = next((a for a in self._above(first) if self._kind(a) == "tool"), None)
        if tool is not None:
            self.into.within(agent, self.into.id_of("span", tool.trace, tool.id))

    def _add(self, record: _R, span: TraceSpan, *key: Any) -> _R:
        """A record of a span, inside the tool that it happened in."""
        extra: dict[str, Any] = {"span": {n: v for n, v in (("trace", span.trace), ("id", span.id), ("name", span.name)) if v}}
        if not key:
            left = self.meanings[span.trace, span.id].left(span)
            events = [e for e in span.events if e.name != "exception" and not e.name.startswith("gen_ai.")]
            extra["span"] |= {
                name: value
                for name, value in (
                    ("parent", span.parent),
                    ("attributes", left),
                    ("events", msgspec.to_builtins(events, builtin_types=(bytes,)) if events else None),
                    ("scope", span.scope or None),
                    ("scope_version", span.scope_version or None),
                    ("more", span.more or None),
                )
                if value
            }
        return self.into.add(
            msgspec.structs.replace(record, extra={**(record.extra or {}), **extra}), *(key or ()), "span", span.trace, span.id
        )

    def _call(self, span: TraceSpan, found: Meaning) -> None:
        agent = self._who(span)
        fields = {k: v for k, v in found.fields.items() if v is not None}
        fields |= {"model": model} if (model := _model(fields)) else {}
        for name in obj(fields.get("extra")).get("cut", ()):
            self.into.warn(f"texts that the emitter cut: {name}")
        enclosing = next((a for a in self._above(span) if self._kind(a) in ("tool", "agent")), None)
        of_tool = enclosing is not None and self._kind(enclosing) == "tool"
        step: int | None
        parent: str | None = None
        if of_tool and enclosing is not None and self._who(enclosing) == agent:  # a tool that asks a model itself
            fields["purpose"] = "tool"
            step, parent = None, self.into.id_of("span", enclosing.trace, enclosing.id)
        else:
            self._results(span, agent, fields)
            step = self._step(span, agent, fields) if fields.get("purpose", "act") == "act" else None
        self._read(agent, step)
        record = LLMCall(agent=agent, step=step, parent=parent, origin="transcript", source_time=span.end or span.start, **fields)
        added = self._add(record, span)
        for one in _calls_of(fields.get("response")):
            self.asked.setdefault(agent, []).append((*one, added.id))

    def _results(self, span: TraceSpan, agent: str | None, fields: dict[str, Any]) -> None:
        """The results of tools that have no spans: a request brings them."""
        waiting = [o for o in self.asked.get(agent, []) if isinstance(o[0], _ID) and not self.done & {o[0], ("name", o[1])}]
        found = chat.results(_messages(fields), [(id, name) for id, name, _, _ in waiting]) if waiting else {}
        for number, result in found.items():
            id, name, given, call = one = waiting[number]
            self.asked[agent].remove(one)
            place: dict[str, Any] = {"agent": agent, "step": self.steps.get(agent), "source_time": span.start}
            action = Action(name=name, arguments=arguments(given), result=result, llm_call=call, tool_call_id=id, **place)
            self.into.add(action, "result", call, number if id is None else id)

    def _step(self, span: TraceSpan, agent: str | None, fields: dict[str, Any]) -> int:
        step = self.steps[agent] = self.steps.get(agent, -1) + 1
        sent = _messages(fields)
        last = sent[-1] if sent and sent[-1].get("role") == "user" else None
        begin = StepStart(agent=agent, step=step, observation=last.get("content") if last else None, source_time=span.start)
        self.into.add(begin, "step", span.trace, span.id)
        return step

    def _read(self, agent: str | None, step: int | None) -> None:
        for span in self.waiting.pop(agent, []) if agent in self.waiting else []:
            fields = {k: v for k, v in self.meanings[span.trace, span.id].fields.items() if v is not None}
            self._add(Context(agent=agent, step=step, source_time=span.start, **fields), span)

    def _tool(self, span: TraceSpan, found: Meaning) -> None:
        agent = self._who(span)
        fields = {k: v for k, v in found.fields.items() if v is not None}
        if span.failed and fields.get("ok") is None:
            fields["ok"] = False
        enclosing = next((a for a in self._above(span) if self._kind(a) == "tool"), None)
        parent = (
            self.into.id_of("span", enclosing.trace, enclosing.id)
            if enclosing is not None and self._who(enclosing) == agent
            else None
        )
        if parent is None:
            fields |= self._asked_by(agent, fields)
        step = self.steps.get(agent)
        self._add(Action(agent=agent, step=step, parent=parent, source_time=span.start, **fields), span)

    def _asked_by(self, agent: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        """The call that asked for an action: by the tool call's id, else by its name and arguments, else by its name alone."""
        open_calls = self.asked.get(agent, [])
        id, name, given = fields.get("tool_call_id"), fields.get("name"), as_text(fields.get("arguments"))
        tests: tuple[Callable[[tuple[Any, Any, Any, str]], bool], ...] = (
            lambda one: id is not None and one[0] == id,
            lambda one: id is None and one[1] == name and _same(one[2], fields.get("arguments"), given),
            lambda one: id is None and one[1] == name,
        )
        for test in tests:
            for one in reversed(open_calls) if id is not None else open_calls:
                if test(one):
                    open_calls.remove(one)
                    return {"llm_call": one[3], **({"tool_call_id": one[0]} if isinstance(one[0], str) else {})}
        return {}

    def _conversation(self, span: TraceSpan, found: Meaning) -> None:
        """A run that tells its whole conversation, and has no spans of its calls: each answer is a call."""
        agent, model = self._who(span), found.fields.get("model")
        history: list[Any] = []
        done: dict[Any, Action] = {}
        self.into.warn("runs without spans of their calls, told by their conversation")
        for number, message in enumerate(found.fields["conversation"]):
            if message.get("role") == "tool" and (action := done.get(message.get("tool_call_id"))) is not None:
                self.into.replace(action, result=message.get("content"))
            if message.get("role") == "assistant":
                step = self.steps[agent] = self.steps.get(agent, -1) + 1
                seen = history[-1].get("content") if history and history[-1].get("role") == "user" else None
                place: dict[str, Any] = {"agent": agent, "step": step, "source_time": span.start}
                self.into.add(StepStart(observation=seen, **place), "step", span.trace, span.id, number)
                message = {k: v for k, v in message.items() if k != "finish_reason"}
                request = {"messages": Prefix(history), **({"model": model} if model else {})}
                call = LLMCall(
                    origin="transcript", dialect="openai.chat", model=model, request=request, response=message,
                    reasoning=message.get("reasoning_content"), **place,
                )  # fmt: skip
                added = self._add(call, span, number)
                for id, name, given in _calls_of(message):
                    action = Action(name=name, arguments=arguments(given), llm_call=added.id, tool_call_id=id, **place)
                    done[id] = self._add(action, span, "action", number, id)
            history.append(message)

    def _note(self, span: TraceSpan, found: Meaning) -> None:
        self._add(Note(agent=self._who(span), source_time=span.start, **found.fields), span)

    def _end(self, roots: list[TraceSpan]) -> None:
        whole = [s for s in roots if s.parent is None and not s.log and self._kind(s) != "noise"]
        if not whole or len(whole) < len([s for s in roots if not s.log and self._kind(s) != "noise"]):
            return  # a span that others are in has not come
        last = max(whole, key=lambda s: s.end or 0)
        told = (self.meanings[s.trace, s.id].answer for s in (last, *whole) if s.trace == last.trace)
        answer = chat.answered(next((t for t in told if t is not None), None))
        if answer is None and not last.failed:
            answer = self._said_last()
        error = (last.error or exception(last)) if last.failed else None
        end = End(status="failed" if last.failed else "completed", answer=answer, error=error, source_time=last.end)
        self.into.add(end, "end")

    def _said_last(self) -> Any:
        """The text of the last call of the run's agent, where it asks for no tool."""
        calls = (s for s in reversed(self.spans) if self._kind(s) == "call" and self._who(s) is None)
        response = self.meanings[last.trace, last.id].fields.get("response") if (last := next(calls, None)) else None
        found = dialects.of_response(response, None).choices(response) if response is not None else []
        return found[0].text or None if found and not found[0].tool_calls else None


def _response_of(span: TraceSpan, found: Meaning) -> str | None:
    """The id that the model's server gave to an answer."""
    return text(span.get("gen_ai.response.id")) or text(obj(found.fields.get("response")).get("id"))


def _at_once(one: TraceSpan, other: TraceSpan) -> bool:
    """Whether two spans overlap."""
    return (one.start or 0) <= (other.end or 0) and (other.start or 0) <= (one.end or 0)


def _content(found: Meaning) -> int:
    """How much a span says of its call: a raw body says most, flattened text least."""
    response = found.fields.get("response")
    told = 4 if dialect_of(response) is not None else 2 if isinstance(response, dict) else int(response not in (None, ""))
    return told + (2 if len(_messages(found.fields)) > 1 else 0)


def _model(fields: dict[str, Any]) -> str | None:
    """The model that answered, else the one that was asked."""
    return fields.get("model") or text(obj(fields.get("request")).get("model"))


def _messages(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """What a call was sent, chat-shaped."""
    request = fields.get("request")
    return dialects.get(fields.get("dialect")).messages(request) if isinstance(request, dict) else []


def _is_inside(found: Meaning, reward: dict[str, Any]) -> bool:
    """Whether a score is of what a span records, and not of the run."""
    return found.kind in ("call", "tool", "read") and "target" not in reward


def _calls_of(response: Any) -> list[tuple[Any, Any, Any]]:
    """The tool calls of an answer: id, name, arguments."""
    found = dialects.of_response(response, None).choices(response) if response is not None else []
    return [(one.id, one.name, one.arguments) for choice in found for one in choice.tool_calls]


def _same(a: Any, b: Any, text_b: str) -> bool:
    text_a = a if isinstance(a, str) else encode(a).decode()
    return text_a.replace(" ", "") == text_b.replace(" ", "")
