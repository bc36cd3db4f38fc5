"""The queue in the terminal in which people label, a key a label. What comes next and what is written: `worlds.people`."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from typing import Any

from ..errors import InvalidInput
from .terminal import cut, line, paint, safe, width

_LONG = 1500  # characters of a turn that are shown before `m` shows all
_HELP = {
    "s": "skip",
    "u": "undo the last label",
    "c": "comment",
    "m": "more of the session",
    "r": "the rubric",
    "q": "quit",
}


class _Quit(Exception):
    pass


class _Keys:
    """Keys of a terminal, or lines of a file."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdin.isatty()

    def key(self, prompt: str) -> str:
        """A key; without a terminal, a line. Raises _Quit at the end of what can be read."""
        print(prompt, end="", flush=True)
        if not self._is_terminal:
            return self._line()
        import termios
        import tty

        before = termios.tcgetattr(sys.stdin)
        try:
            tty.setcbreak(sys.stdin, termios.TCSADRAIN)  # keys that were typed ahead stay
            found = sys.stdin.read(1)
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        if found in ("", "\x04"):
            raise _Quit
        print(found if found.isprintable() else "")
        return found

    def line(self, prompt: str) -> str:
        """A line. Raises _Quit at the end of what can be read."""
        print(prompt, end="", flush=True)
        return self._line()

    def _line(self) -> str:
        found = sys.stdin.readline()
        if not found:
            raise _Quit
        if not self._is_terminal:
            print(found.strip())
        return found.strip()


def label_by_hand(store: Any, rubric: Any, annotator: str, **which: Any) -> int:
    """Lets a person label what a rubric and filters choose, until nothing is left or the person quits."""
    from ..worlds.people import Queue

    queue = Queue(store, rubric, annotator, **which)
    keys = _Keys()
    print(f"{line(rubric.technique)}, version {rubric.version[:8]}: {len(queue.ids):,} sessions, labelled by {line(annotator)}")
    print(safe(rubric.description))
    try:
        while (item := queue.next()) is not None:
            _session(keys, queue, rubric, item)
        print("nothing is left to label")
    except _Quit:
        print()
    print(f"{queue.done:,} of {len(queue.ids):,} labelled; the same command goes on here")
    return 0


def _session(keys: _Keys, queue: Any, rubric: Any, item: Any) -> None:
    """One session, until it is labelled or skipped."""
    lines = list(_shown(item, full=False))
    room = max(10, shutil.get_terminal_size((100, 40)).lines - 6)
    at = min(len(lines), room)
    print("\n".join(["", *lines[:at]]))
    comment: str | None = None
    choose = _values if rubric.form.values and len(rubric.form.values) < 10 and rubric.form.on == "trajectory" else _typed
    while True:
        if at < len(lines):
            print(paint(f"... {len(lines) - at:,} more lines (m)", "dim"))
        said = choose(keys, rubric)
        if said in _HELP or (len(said) == 1 and said in " \n"):
            if said == "s":
                return queue.skip(item)  # type: ignore[no-any-return]
            if said == "u":
                print("taken back" if queue.undo() else "there is no label of this sitting to take back")
                return None
            if said == "c":
                comment = keys.line("comment: ") or None
            elif said == "r":
                print(safe(rubric.description))
            elif said == "q":
                raise _Quit
            elif at < len(lines):
                print("\n".join(lines[at : at + room]))
                at = min(len(lines), at + room)
            else:
                lines = list(_shown(item, full=True))
                print("\n".join(lines))
                at = len(lines)
            continue
        try:
            if rubric.form.on == "trajectory":
                value, score = _answer(keys, rubric, said)
                queue.label(item, value, score, rationale=comment)
                return None
            if said == "d":
                queue.finish(item)
                return None
            turn, value, score, quote = _part(rubric, said)
            queue.find(item, turn, value, score, quote=quote, rationale=comment)
            comment = None
            print(f"turn {turn} labelled")
        except InvalidInput as error:
            print(paint(f"{error}", "red"))


def _values(keys: _Keys, rubric: Any) -> str:
    said = "  ".join(f"{n} {line(value)}" for n, value in enumerate(rubric.form.values, 1))
    others = "  ".join(f"{key} {what}" for key, what in _HELP.items())
    return keys.key(f"{paint(said, 'bold')}   {paint(others, 'dim')}\n> ")


def _typed(keys: _Keys, rubric: Any) -> str:
    form = rubric.form
    what = f"a value ({', '.join(map(line, form.values))})" if form.values else f"a score ({form.low:g} to {form.high:g})"
    if form.on != "trajectory":
        what = f"TURN, {what} and a quote; d when the session is done"
    others = "  ".join(f"{key} {what}" for key, what in _HELP.items())
    return keys.line(f"{paint(what, 'bold')}   {paint(others, 'dim')}\n> ")


def _answer(keys: _Keys, rubric: Any, said: str) -> tuple[str, float | None]:
    """The value and score of what was typed. Raises InvalidInput."""
    form = rubric.form
    if not form.values:
        return "", _number(said)
    value = form.values[int(said) - 1] if said.isdecimal() and 1 <= int(said) <= len(form.values) else said
    form.fitted(value, None)
    score = _number(keys.line(f"score ({form.low:g} to {form.high:g}): ")) if form.asks_score else None
    return value, score


def _part(rubric: Any, said: str) -> tuple[int, str, float | None, str]:
    """Turn, value, score and quote. Raises InvalidInput."""
    form = rubric.form
    pattern = r"(\d+)\s+" + (r"(\S+)\s*" if form.values else "()") + (r"(-?[\d.]+)\s*" if form.asks_score else "()") + "(.*)"
    found = re.fullmatch(pattern, said)
    if found is None:
        words = [*(["value"] if form.values else []), *(["score"] if form.asks_score else [])]
        raise InvalidInput(f"a label of a turn is written: the turn's number, {', '.join(words)}, and a quote")
    value = found[2]
    if value.isdecimal() and 1 <= int(value) <= len(form.values):
        value = form.values[int(value) - 1]
    return int(found[1]), value, _number(found[3]) if form.asks_score else None, found[4].strip().strip('"')


def _number(said: str) -> float:
    try:
        return float(said)
    except ValueError:
        raise InvalidInput(f"{said!r} is no key here and no number") from None


def _shown(item: Any, full: bool) -> Iterator[str]:
    """A session as lines: no label, no reward, and nothing that a terminal obeys."""
    task = item.task if isinstance(item.task, str) else ""
    head = f"[{item.number}/{item.of}] {item.trajectory[-8:]}  {line(task)}"
    yield paint(cut(head, width()), "bold")
    for n, turn in enumerate(item.turns, 1):
        name = f" {line(turn.tool_name)}" if turn.tool_name else ""
        step = turn.metadata.get("step")
        place = f" (step {step})" if isinstance(step, int) else ""
        yield paint(f"{n} {line(turn.role)}{name}{place}", "cyan")
        texts = [turn.content, turn.tool_input, turn.tool_output, f"error: {turn.error}" if turn.error else None]
        for text in texts:
            if text:
                cut_off = not full and len(text) > _LONG
                shown = text[:_LONG] + f" ...[{len(text) - _LONG:,} more characters]" if cut_off else text
                yield from (f"  {one}" for one in safe(shown).splitlines())
    if item.session.outcome:
        yield paint(f"outcome: {line(item.session.outcome)}", "dim")
