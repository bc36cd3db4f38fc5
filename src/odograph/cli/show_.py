"""`odograph show`: one trajectory, as a session to read, or whole as JSON."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from ..clock import iso_time
from ..codec import encode
from ..dialects.content import text_of
from ..quality.look import Look
from ..trajectory import Call, Step, Trajectory
from ..types import Action, AnyRecord, Context, Edit, Kept, Label, LLMCall, Note, Reward, StepStart
from .common import add_json, existing_store
from .terminal import cells, line, number, paint, safe, seconds, width

HELP = "show one trajectory; any unique prefix or suffix of its id will do"
_SHORT = 700
_ROLES = {"system": "magenta", "developer": "magenta", "user": "green", "assistant": "cyan", "tool": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the id, or a unique prefix or suffix of it")
    parser.add_argument("--full", action="store_true", help="long texts too, and notes")
    parser.add_argument("--step", type=int, metavar="N", help="this step only")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with existing_store(args) as store:
        trajectory = store.trajectory(args.id)
        if args.json:
            write_json(trajectory)
            return 0
        for text in session(trajectory, full=args.full, only=args.step):
            print(text)
    return 0


def write_json(trajectory: Trajectory) -> None:
    """The whole trajectory as one JSON object, written piece by piece: a long history is in it many times."""
    out = sys.stdout.buffer
    out.write(b"{")
    for number_, (key, value) in enumerate(trajectory.to_dict().items()):
        out.write((b"," if number_ else b"") + encode(key) + b":")
        if isinstance(value, list):
            out.write(b"[")
            for index, item in enumerate(value):
                out.write((b"," if index else b"") + encode(item))
            out.write(b"]")
        else:
            out.write(encode(value))
    out.write(b"}\n")


def session(t: Trajectory, *, full: bool = False, only: int | None = None) -> Iterator[str]:
    """The lines of a session: header, then each step with what was observed, read, asked, answered, done and earned."""
    yield from _header(t, full)
    new = {call.id: (messages, path) for path, call, messages, _ in Look(t).new_messages}
    steps = {(s.agent, s.index): s for s in t.steps}
    shown: Step | None = None
    replaced = {r.supersedes for r in t.records if r.supersedes}
    calls = {c.id: c for c in t.llm_calls}
    for record in t.records:
        if record.id in replaced:
            continue
        if only is not None and record.step != only:
            continue
        step = steps.get((record.agent or t.agent, record.step)) if record.step is not None else None
        if step is not None and step is not shown:
            shown = step
            yield ""
            who = f" · {line(step.agent)}" if step.agent and step.agent != t.agent else ""
            earned = f" · reward {number(step.reward)}" if step.reward is not None else ""
            yield paint(f"── step {step.index}{who}{earned} ".ljust(min(width(), 100), "─"), "bold")
        elif step is None and shown is not None and not isinstance(record, (Note,)) and record.step is None:
            shown = None
            yield ""
        yield from _record(record, calls, new, full)
    if t.end is not None and only is None:
        yield ""
        yield paint(f"── {t.status} ".ljust(min(width(), 100), "─"), "bold")
        if t.answer is not None:
            yield from _block("answer", t.answer, "cyan", full)
        if t.end.error is not None:
            yield from _block("error", t.end.error, "red", full)


def _header(t: Trajectory, full: bool) -> Iterator[str]:
    yield paint(t.id, "bold")
    prompt = [c.prompt_tokens for c in t.llm_calls if c.prompt_tokens is not None]
    completion = [c.completion_tokens for c in t.llm_calls if c.completion_tokens is not None]
    facts = [
        ("agent", t.agent),
        ("model", t.model),
        ("status", t.status),
        ("reward", None if t.reward is None else number(t.reward)),
        ("steps", str(len(t.steps))),
        ("calls", str(len(t.llm_calls))),
        ("actions", str(len(t.actions))),
        ("tokens", f"{number(sum(prompt))} in, {number(sum(completion))} out" if prompt or completion else None),
        ("started", iso_time(t.started)),
        ("took", None if t.duration is None else seconds(t.duration)),
        ("group", t.group),
        ("tags", ", ".join(t.tags) or None),
        ("fork of", t.start.fork.trajectory if t.start and t.start.fork else None),
    ]
    yield " · ".join(f"{name} {line(value)}" for name, value in facts if value)
    if t.task is not None:
        yield from _block("task", t.task, "green", full)


def _record(
    record: AnyRecord, calls: dict[str, Call], new: dict[str, tuple[list[dict[str, Any]], str]], full: bool
) -> Iterator[str]:
    match record:
        case StepStart():
            told = isinstance(record.observation, list) and all(
                isinstance(o, dict) and "tool_call_id" in o for o in record.observation
            )
            if record.observation is not None and (full or not told):  # results of tools are shown as the messages they are
                yield from _block("observed", record.observation, "green", full)
        case Context():
            why = f" ({line(record.purpose)})" if record.purpose else ""
            asked = f" {line(_text(record.query))[:200]}" if record.query is not None else ""
            yield from _block(
                f"read {line(record.provider)}{asked}{why}",
                record.error if record.error is not None else record.data,
                "blue",
                full,
            )
        case LLMCall():
            yield from _call(calls[record.id], new.get(record.id, ([], ""))[0], full)
        case Action():
            yield from _action(record, full)
        case Reward():
            value = number(record.value) if not isinstance(record.value, dict) else line(str(record.value.get("value")))
            where = " on a record" if record.target else ""
            why = f": {line(record.rationale)[:300]}" if record.rationale else ""
            yield paint(f"reward {line(record.name)} {value}", "yellow") + f"{where} ({record.source}){why}"
        case Edit():
            runs = " + ".join(
                f"kept {r.start}..{r.stop}" if isinstance(r, Kept) else repr(r.text if r.text is not None else r.ids)
                for r in record.result
            )
            why = f" ({line(record.reason)})" if record.reason else ""
            state = f" REJECTED: {line(record.rejected)}" if record.rejected else ""
            yield paint("edit", "magenta") + f" {line(runs)[:400]}{why}{state}"
        case Label():
            said = "" if record.value is None else f" {line(_text(record.value))[:200]}"
            score = "" if record.score is None else f" {number(record.score) if isinstance(record.score, float) else 'nan'}"
            yield paint(f"label {line(record.technique)}", "magenta") + said + score
        case Note():
            if full:
                yield from _block(f"note {line(record.name or '')}", record.data, "dim", full)
        case _:
            return


def _call(call: Call, messages: list[dict[str, Any]], full: bool) -> Iterator[str]:
    for message in messages:
        role = str(message.get("role"))
        content = message.get("content")
        text = text_of(content) or ("" if content in (None, "", []) else _text(content))
        asked = message.get("tool_calls")
        for one in asked if isinstance(asked, list) else []:
            function = one.get("function") if isinstance(one, dict) else None
            if isinstance(function, dict):
                text += f"\n→ {function.get('name')}({_text(function.get('arguments'))})"
        if role == "assistant" and not full:
            continue  # what it said before is shown where it said it
        if text.strip():
            yield from _block(role, text, _ROLES.get(role, "dim"), full)
    about = [line(call.model or "model")]
    if call.purpose != "act":
        about.append(f"for {line(call.purpose)}")
    if call.prompt_tokens is not None or call.completion_tokens is not None:
        about.append(f"{number(call.prompt_tokens)} → {number(call.completion_tokens)} tokens")
    if call.record.duration is not None:
        about.append(seconds(call.record.duration / 1e9))
    yield paint(f"· {' · '.join(about)}", "dim")
    if call.reasoning:
        yield from _block("thinking", call.reasoning, "dim", full)
    for choice in call.choices:
        text = choice.text
        for one in choice.tool_calls:
            text += f"\n→ {one.name}({_text(one.arguments)})"
        if text.strip():
            name = "assistant" if len(call.choices) == 1 else f"assistant, choice {choice.index}"
            yield from _block(name, text.strip("\n"), "cyan", full)
    if call.record.error is not None:
        yield from _block("error", call.record.error, "red", full)


def _action(action: Action, full: bool) -> Iterator[str]:
    mark = {True: paint("ok", "green"), False: paint("failed", "red"), None: ""}[action.ok]
    took = f" {seconds(action.duration / 1e9)}" if action.duration is not None else ""
    yield paint(f"do {line(action.name or '(unknown)')}", "yellow") + f"({_brief(action.arguments, full)}) {mark}{took}".rstrip()
    if action.error is not None:
        yield from _block("error", action.error, "red", full)
    if action.result is not None:
        yield from _block("result", action.result, "yellow", full)


def _brief(value: Any, full: bool) -> str:
    if value is None:
        return ""
    text = line(_text(value))
    return text if full or len(text) <= 200 else text[:200] + "…"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()


def _block(name: str, value: Any, colour: str, full: bool) -> Iterator[str]:
    """A named text, wrapped and indented; shortened where it is long."""
    parts = isinstance(value, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in value)
    text = safe(text_of(value) if parts and value else _text(value)).strip("\n")
    more = ""
    if not full and len(text) > _SHORT:
        more = paint(f"… ({len(text):,} characters; --full shows all)", "dim")
        text = text[:_SHORT]
    head = paint(name, colour) if colour != "dim" else paint(name, "dim")
    lines = text.split("\n")
    if len(lines) == 1 and not more and cells(name) + cells(text) + 2 <= width():
        yield f"{head}: {text}"
        return
    yield f"{head}:"
    for one in lines:
        wrapped = textwrap.wrap(
            one, max(20, width() - 4), replace_whitespace=False, drop_whitespace=False, break_on_hyphens=False
        )
        for part in wrapped or [""]:
            yield f"    {part}"
    if more:
        yield f"    {more}"
