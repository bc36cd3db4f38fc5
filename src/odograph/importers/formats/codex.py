"""Codex rollouts: JSON lines `{timestamp, type, payload}`, or, in the oldest files, the bare items.

`event_msg` lines repeat what `response_item` lines say: those twins are left out. One model call is what stands between
two `token_count` events whose totals differ (or `token_usage_record` lines, which newer versions write at the end of a reply);
where a file has none, what stands between two inputs, the results of tools among them. A step is a tool call.
A prompt is what the thread holds at that moment: `thread_rolled_back` takes turns out of it, `compacted` replaces it. What a
fork or a sub-agent repeats of its parent (or refers to by `history_base`) is its history, and no records of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...clock import iso_time
from ...codec import content_hash
from ...errors import InvalidInput
from ...prefix import Prefix
from ...shape import arguments, content_text, integer, items, nanoseconds, number, obj, text, without
from ...types import Action, Fork, LLMCall, Note, Start, StepStart
from .. import peek
from ..session import NotBegun, Session, observed_where, parse_time
from .codex_files import (
    CALLS,
    OUTPUTS,
    SERVER,
    Rollout,
    Row,
    answer,
    counts_of,
    find_rollout,
    identity,
    is_asked,
    key_of,
    outcome_of,
    repeats,
    spawned,
)

NAME = "codex"
_TWINS = ("user_message", "agent_message", "agent_reasoning", "agent_reasoning_raw_content", "agent_reasoning_section_break")


def recognise(path: Path, head: bytes) -> bool:
    """A `session_meta` line, or an old file's first line with `id`, `timestamp` and `instructions`."""
    for number_, line in enumerate(head.split(b"\n")[:20]):
        try:
            value = peek.value(line)
        except InvalidInput:
            if line.startswith(b'{"timestamp"') and b'"type":"session_meta"' in line.replace(b" ", b""):
                return True
            continue
        if not isinstance(value, dict):
            return False
        if value.get("type") == "session_meta" and "payload" in value:
            return True
        if value.get("type") in ("event_msg", "response_item", "turn_context") and isinstance(value.get("payload"), dict):
            return True
        if number_ == 0 and {"id", "timestamp", "instructions"} <= value.keys() and "type" not in value:
            return True
    return False


class _Reader:
    """What the rows of a thread come to, one after the other."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.history: list[Any] = []
        #: The reply under way: its items, inputs that came in between, and when each came.
        self.reply: list[tuple[dict[str, Any], int | None]] = []
        self.inputs: list[Any] = []
        self.unanswered: list[tuple[dict[str, Any], int | None]] = []
        self.actions: dict[str, Action] = {}
        self.model: str | None = None
        self.unpriced: LLMCall | None = None
        self.credit: dict[str, Any] | None = None
        self.instructions: str | None = None
        self.total: Any = None
        #: What the file's counts come to; they begin anew where a thread is resumed.
        self.counted: dict[str, int] = {}
        self.last: dict[str, Any] = {}
        self.step = -1
        #: The outputs of calls that were not seen yet.
        self.results: dict[str | None, list[Any]] = {}
        #: Whether the file tells where replies end; where it does not, a reply ends when all that it asked for is answered.
        self.told_ends = True
        #: The tool calls of earlier replies that have no answer yet.
        self.unmet: set[str | None] = set()
        #: The tool calls of the reply under way that have no answer yet; None where it asked for no tool.
        self.open: set[str | None] | None = None
        #: Whether the program has just ended a review: it tells the review's outcome in the model's place.
        self.reviewed = False
        #: What is known of how a tool call went: ok, duration, error.
        self.outcomes: dict[str, dict[str, Any]] = {}

    def take(self, rows: list[Row], meta: dict[str, Any]) -> None:
        for kind, payload, when, _ in rows:
            what = payload.get("type")
            if kind == "response_item":
                if what == "agent_message" or (what == "message" and payload.get("role") != "assistant"):
                    self.close()
                self.item(payload, when)
            elif kind == "turn_context":
                self.model = text(payload.get("model")) or self.model
                self.note("turn_context", payload, when)
            elif kind == "compacted":
                self.close()
                self.compacted(payload)
                self.note("compacted", payload, when)
            elif counts := counts_of(kind, payload):
                total, last = counts
                if total.get("total_tokens") != self.total:
                    self.total = total.get("total_tokens")
                    self.totals(total)
                    self.count(last, text(payload.get("response_id")))
            elif kind == "event_msg" and (what in _TWINS or (what == "item_completed" and repeats(payload))):
                continue
            elif kind == "event_msg" and what == "thread_rolled_back":
                self.close()
                self.roll_back(integer(payload.get("num_turns")) or 0)
                self.note("thread_rolled_back", payload, when)
            elif kind != "session_meta" or payload is not meta:
                if kind == "event_msg":
                    self.event(payload)
                self.note(kind if kind != "event_msg" else str(what), payload, when)

    def note(self, name: str, data: Any, when: int | None) -> None:
        self.session.add(Note(name=name, data=data, source_time=when), "event", name, when, content_hash(data))

    # --- what the model is sent ---------------------------------------------------------------------------------------

    def item(self, item: dict[str, Any], when: int | None) -> None:
        kind = item.get("type")
        if kind in OUTPUTS:
            self._output(item, when)
        elif kind == "message" and item.get("role") == "assistant" and self.reviewed:
            self.reviewed = False
            self._input(item, when)
        elif kind in CALLS or kind in SERVER or kind == "reasoning" or (kind == "message" and item.get("role") == "assistant"):
            if not self.told_ends and self.open == set():
                self.close()
            self.reply.append((item, when))
            if kind in CALLS:
                self.open = self.open if self.open is not None else set()
                self.open.add(text(item.get("call_id")))
        elif kind in ("message", "agent_message"):  # the latter: another agent sent it
            self.inputs.append(item.get("content"))
            self.unanswered.append((item, when))
            self._input(item, when)
        else:
            self.note(f"response_item:{kind}", item, when)

    def _input(self, item: dict[str, Any], when: int | None) -> None:
        """An item that the model sees next: after those of the reply that is under way."""
        if self.reply:
            self.reply.append((item, when))
        else:
            self.history.append(item)

    def roll_back(self, turns: int) -> None:
        """The last turns are gone from what the model sees: from the person's message that began the first of them on."""
        self.leave()
        began = [n for n, item in enumerate(self.history) if is_asked(item)]
        if turns > 0 and began:
            self.history = self.history[: began[-min(turns, len(began))]]

    def compacted(self, payload: dict[str, Any]) -> None:
        """What a compaction puts in the history's place: a list where it says one, else what came before the first prompt, what
        the person said, and the summary."""
        replaced = payload.get("replacement_history")
        if isinstance(replaced, list):
            self.history = [item for item in replaced if obj(item).get("type") != "ghost_snapshot"]  # never sent
            return
        first = next((n for n, item in enumerate(self.history) if is_asked(item)), len(self.history))
        said = [item for item in self.history[first:] if is_asked(item)]
        context = [item for item in self.history[:first] if obj(item).get("type") == "message"]
        self.history = [*context, *said]
        if text(payload.get("message")):
            summary = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": payload["message"]}]}
            self.history.append(summary)

    def leave(self) -> None:
        """What no reply followed is kept in a note; where one follows later, the call takes its place."""
        if self.unanswered:
            first, when = self.unanswered[0]
            data = {"messages": [item for item, _ in self.unanswered]}
            where = observed_where([], [w for _, w in self.unanswered])
            self.session.add(Note(name="unanswered", data=data, source_time=when, extra=where), "reply", key_of(first, when))
        self.unanswered, self.inputs = [], []

    # --- what came of tool calls --------------------------------------------------------------------------------------

    def _output(self, item: dict[str, Any], when: int | None) -> None:
        self._input(item, when)
        id = text(item.get("call_id"))
        for waiting in (self.open or set(), self.unmet):
            waiting.discard(id)
        result = item.get("output") if "output" in item else without(item, "type", "id", "call_id", "status")
        found = {k: v for k, v in outcome_of(result).items() if v is not None}
        known = self.actions.get(id or "")
        if id is not None:
            self.outcomes[id] = {**found, **self.outcomes.get(id, {})}
        if known is not None:
            if known.result is not None and known.result != result:  # the last counts: the one before is kept
                self.note("result_before", {"call_id": id, "output": known.result}, known.source_time)
            self.actions[id or ""] = self.session.replace(
                known, result=result, **self.outcomes.get(id or "", {}), **_spawns(result)
            )
        else:
            self.results.setdefault(id, []).append(result)

    def event(self, payload: dict[str, Any]) -> None:
        """How a tool call went, as the program's own events tell it: they know better than the text that the model was sent."""
        kind, id = payload.get("type"), text(payload.get("call_id"))
        if kind == "exited_review_mode" or obj(payload.get("item")).get("type") == "ExitedReviewMode":
            self.close()
            self.reviewed = True
        if kind == "item_completed":  # newer versions
            payload = obj(payload.get("item"))
            id = text(payload.get("id"))
        elif kind not in ("exec_command_end", "patch_apply_end", "mcp_tool_call_end", "dynamic_tool_call_response"):
            return
        if id is None:
            return
        found: dict[str, Any] = {}
        code = integer(payload.get("exit_code"))
        result = payload.get("result")
        if code is not None:
            found["ok"] = code == 0
        elif isinstance(payload.get("success"), bool):
            found["ok"] = payload["success"]
        elif kind == "item_completed" and payload.get("status") in ("completed", "failed", "declined"):
            found["ok"] = payload["status"] == "completed"
        elif kind == "mcp_tool_call_end" and isinstance(result, dict):
            good = obj(result.get("Ok"))
            found["ok"] = "Ok" in result and not (good.get("isError") or good.get("is_error"))
            if "Err" in result:
                found["error"] = result["Err"]
        took = payload.get("duration")
        if isinstance(took, dict):
            seconds, more = number(took.get("secs")), number(took.get("nanos"))
            found["duration"] = nanoseconds((seconds or 0) + (more or 0) / 1e9) if seconds is not None else None
        found = {k: v for k, v in found.items() if v is not None}
        self.outcomes[id] = {**self.outcomes.get(id, {}), **found}
        if found and id in self.actions:
            self.actions[id] = self.session.replace(self.actions[id], **found)

    # --- calls --------------------------------------------------------------------------------------------------------

    def totals(self, total: dict[str, Any]) -> None:
        for name in ("input_tokens", "output_tokens"):
            now, before = integer(total.get(name)), integer(self.last.get(name)) or 0
            if now is not None:
                self.counted[name] = self.counted.get(name, 0) + (now - before if now >= before else now)
        self.last = total

    def count(self, usage: dict[str, Any], response: str | None = None) -> None:
        """The counts of a reply: of the one under way, of the last one, or, as older versions write it, of the next. `response`:
        what the API calls the reply."""
        if self.reply:
            credit, self.credit = self.credit, None
            self.close(credit or usage, response=response)
            self.credit = usage if credit else None
        elif self.unpriced is not None:
            self._price(self.unpriced, usage)
            self.unpriced = None
        else:
            self.credit = usage

    def close(self, usage: dict[str, Any] | None = None, *, response: str | None = None, end: bool = False) -> None:
        """The reply that was under way becomes a call, with its tool calls as actions. `end`: of the file, where a reply of
        nothing but thoughts is one that has not come yet."""
        if usage is None:
            usage, self.credit = self.credit, None
        self.open = None
        generated = [(i, w) for i, w in self.reply if i.get("type") not in OUTPUTS and i.get("role") in (None, "assistant")]
        if not generated:
            self.history += [i for i, _ in self.reply]
            self.reply = []
            if not usage:
                return
        when = generated[0][1] if generated else None
        unanswered, self.unanswered = self.unanswered, []
        first_item, first_when = unanswered[0] if unanswered else generated[0] if generated else ({}, None)
        key = ("reply", key_of(first_item, first_when) if first_item else None)
        if end and all(i.get("type") == "reasoning" for i, _ in generated):
            data = {"messages": [i for i, _ in unanswered], "items": [i for i, _ in generated]}
            self.session.add(Note(name="unfinished_reply", data=data, source_time=when), *key)
            self.reply, self.inputs = [], []
            return
        calls = [(i, w) for i, w in generated if i.get("type") in CALLS]
        observed, self.inputs = self.inputs, []
        where = observed_where([text(i.get("id")) for i, _ in unanswered], [w for _, w in unanswered])
        names = [text(i.get("call_id")) or text(i.get("id")) or key_of(i, w) for i, w in calls]
        first = self.step + 1 if calls else None
        if first is not None:
            seen = observed[0] if len(observed) == 1 else observed or None
            self.session.add(StepStart(step=first, observation=seen, source_time=when, extra=where), "step", names[0])
        answer(self.unmet, self.history)
        request: dict[str, Any] = {"input": Prefix(self.history)}
        if self.instructions:
            request["instructions"] = self.instructions
        if self.model:
            request["model"] = self.model
        about = {"ended": iso_time(generated[-1][1])} if generated and generated[-1][1] != when else {}
        about |= {"llm_response_id": response} if response else {}
        thinking = [
            p.get("text") for i, _ in generated if i.get("type") == "reasoning" for p in map(obj, items(i.get("summary")))
        ]
        call = self.session.add(
            LLMCall(
                step=first,
                source_time=when,
                origin="transcript",
                dialect="openai.responses",
                model=self.model,
                request=request,
                response={"output": [i for i, _ in generated]},
                reasoning="\n".join(t for t in thinking if isinstance(t, str)) or None,
                extra={**about, **((where or {}) if first is None else {})} or None,
            ),
            *key,
        )
        if usage:
            call = self._price(call, usage)
        self.unpriced = None if usage else call
        index = first
        for (item, at), id in zip(calls, names, strict=True):
            self.step += 1
            if self.step != first:
                self.session.add(StepStart(step=self.step, source_time=at), "step", id)
            index = self.step
            given = next((item[k] for k in ("arguments", "input", "action") if item.get(k) is not None), None)
            result = self.results[id].pop(0) if self.results.get(id) else None
            about = {k: item[k] for k in ("id", "namespace", "status") if item.get(k) is not None}
            spawns = _spawns(result)
            extra = {**about, **spawns.pop("extra", {})}
            action = self.session.add(
                Action(
                    step=index,
                    source_time=at,
                    name=str(item.get("name") or str(item.get("type")).removesuffix("_call")),
                    arguments=arguments(given),
                    result=result,
                    llm_call=call.id,
                    tool_call_id=text(item.get("call_id")) or text(item.get("id")),
                    extra=extra or None,
                    **self.outcomes.get(id, {}),
                ),
                *("action", id),
            )
            self.actions[id] = action
        for id_, result in ((i, r) for i, results in self.results.items() for r in results):
            self.session.warn("tool results that no call in the file asked for")
            lost: dict[str, Any] = {"call_id": id_, "output": result, **outcome_of(result)}
            key = ("action", id_) if id_ else ("result", content_hash(result))
            self.session.add(Note(name="result_without_call", data=lost, step=index, source_time=when), *key)
        self.results = {}
        answered = {text(i.get("call_id")) for i, _ in self.reply if i.get("type") in OUTPUTS}
        self.unmet = {text(i.get("call_id")) for i, _ in calls} - answered - {None}
        self.history += [i for i, _ in self.reply]
        self.reply = []

    def _price(self, call: LLMCall, usage: dict[str, Any]) -> LLMCall:
        counts = {"prompt_tokens": integer(usage.get("input_tokens")), "completion_tokens": integer(usage.get("output_tokens"))}
        return self.session.replace(call, usage=usage, **counts)


def read(path: Path) -> Iterator[Session]:
    """The session of a file. Raises InvalidInput where it has none."""
    yield _session(path)  # what no record holds is let go before the session is stored


def _session(path: Path) -> Session:
    rollout = Rollout(path)
    rows, meta = rollout.rows, rollout.meta
    if not any(r.kind in ("response_item", "event_msg") for r in rows):
        raise NotBegun("a Codex file without an item or event")
    id, started = rollout.identity
    session = Session(NAME, *id, started=started)
    for problem in rollout.problems:
        session.warn(problem)
    if rollout.glued:
        session.warn("lines that held several objects", rollout.glued)
    shared = rollout.shared()
    ends = any(counts_of(r.kind, r.payload) for r in rows)
    before = _Reader(Session(NAME))  # what is another thread's is read for the history that it leaves
    before.told_ends = ends
    parent: dict[str, Any] = {}
    missing: Any = None
    if shared:
        second = rollout.parent()
        parent = (
            second.payload if second is not None else {"id": meta.get("forked_from_id") or spawned(meta).get("parent_thread_id")}
        )
        before.take(rows[:shared], meta)
        before.close()
    elif obj(meta.get("history_base")):
        parent = {"id": obj(meta["history_base"]).get("thread_id")}
        base = _base_of(rollout)
        if base is not None:
            of, when = base.identity
            parent["trajectory"] = Session(NAME, *of, started=when).id
        if not _inherited(before, rollout, base, 0):
            missing = parent["id"]
    reader = _Reader(session)
    reader.told_ends = ends
    for name in ("history", "model", "total", "last", "step"):
        setattr(reader, name, getattr(before, name))
    reader.instructions = text(meta.get("instructions") or obj(meta.get("base_instructions")).get("text"))
    own = rows[shared:]
    start = session.add(_start(path, meta, own, rollout, parent, before.step + 1 if missing is None else None), "start")
    if missing is not None:  # every prompt of this thread is incomplete
        session.warn("prompts lack what the thread says that this one goes on from: its file is not beside this one")
        session.add(Note(name="history_missing", data={"thread": missing}, source_time=started), "history_missing")
    reader.take(own, meta)
    reader.close(end=True)
    reader.leave()
    counts = {"prompt_tokens": reader.counted.get("input_tokens"), "completion_tokens": reader.counted.get("output_tokens")}
    known = {n: c for n, c in counts.items() if c is not None}
    if known:
        session.replace(start, metadata={"source": {**start.metadata["source"], "totals": known}})
    return session


def _start(path: Path, meta: dict[str, Any], own: list[Row], rollout: Rollout, parent: dict[str, Any], step: int | None) -> Start:
    user = next(
        (r.payload.get("message") for r in own if r.kind == "event_msg" and r.payload.get("type") == "user_message"), None
    )
    if user is None:
        user = next(
            (content_text(r.payload.get("content")) for r in own if r.kind == "response_item" and is_asked(r.payload)), None
        )
    about = spawned(meta)
    source: dict[str, Any] = {
        "format": NAME,
        "path": path.name,
        "session": meta.get("id"),
        **without(meta, "id"),
        "interactive": True,
    }
    fork: Fork | None = None
    of = text(parent.get("id"))
    if of is not None:
        reason = "sub-agent" if about else "resumed" if rollout.goes_on or of == meta.get("id") else "forked"
        fork = Fork(trajectory=parent.get("trajectory") or _trajectory(of, parent, path), step=step, reason=reason)
    else:
        of = text(about.get("parent_thread_id")) or text(meta.get("parent_thread_id")) or text(meta.get("forked_from_id"))
        if of is not None:
            source["parent"] = {"trajectory": _trajectory(of, {}, path), "session": of}
    return Start(
        task=user,
        agent=text(about.get("agent_nickname")) or text(about.get("agent_role")) or text(meta.get("agent_role")) or "codex",
        agent_version=text(meta.get("cli_version")),
        source_time=next((r.when for r in rollout.rows if r.when is not None), rollout.identity[1]),
        fork=fork,
        metadata={"source": source},
    )


def _trajectory(thread: str, meta: dict[str, Any], near: Path) -> str:
    """The id of the trajectory that another thread is."""
    id, when = identity(thread, parse_time(meta.get("timestamp")))
    if when is None and (path := find_rollout(near, thread)) is not None:
        id, when = Rollout(path).identity
    return Session(NAME, *id, started=when).id


def _base_of(rollout: Rollout) -> Rollout | None:
    """The file that a thread's history begins in. None where that file is not there."""
    path = find_rollout(rollout.path, str(obj(rollout.meta.get("history_base")).get("thread_id")))
    return Rollout(path) if path is not None else None


def _inherited(reader: _Reader, rollout: Rollout, base: Rollout | None, depth: int) -> bool:
    """Reads what a thread goes on from out of its parent's file, up to where it left. False where that file is not there."""
    if base is None or depth == 200:
        return False
    stop = integer(obj(rollout.meta.get("history_base")).get("end_ordinal_exclusive"))
    whole = not obj(base.meta.get("history_base")) or _inherited(reader, base, _base_of(base), depth + 1)
    rows = base.rows
    if stop is not None:
        rows = [r for n, r in enumerate(rows) if (r.ordinal if r.ordinal is not None else n) < stop] if stop else rows
    reader.take(rows, base.meta)
    reader.close()
    return whole


def _spawns(result: Any) -> dict[str, Any]:
    """For the result of starting a sub-agent: which trajectory that is."""
    thread = text(obj(arguments(result)).get("agent_id")) if isinstance(result, str) else None
    if thread is None:
        return {}
    id, when = identity(thread)
    return {"extra": {"trajectory": Session(NAME, *id, started=when).id}} if when is not None else {}
