"""A session and a technique as a judge is shown them. Text in, text out; knows no judge and no world.

What is judged is hostile. Turns are JSON in which `<` is written `\\u003c`, which reads as the same, so no content can close the
session's tag; and a prompt's places are filled at once, so that no content can name another place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from ..dialects.content import without_bytes
from ..errors import InvalidInput, NotFound

PLACES = ("technique", "description", "about", "turns", "answer")
_PLACE = re.compile(r"\{([a-z_]+)\}")
_BYTES_PER_TOKEN = 3  # as a Judge counts: on the safe side
_LEAST = 600  # bytes of turns that a prompt has room for in any case


class Template(msgspec.Struct, frozen=True):
    """A prompt with places such as `{turns}`, as a text that begins with a line `# system` and has a line `# user`."""

    system: str
    user: str

    @classmethod
    def of(cls, text: str) -> Template:
        """Raises InvalidInput where a part is missing or a place is unknown."""
        parts = re.split(r"^# (system|user)[ \t]*$", text, flags=re.M)
        found = {name: part.strip() for name, part in zip(parts[1::2], parts[2::2], strict=True)}
        if set(found) != {"system", "user"} or len(parts) != 5:
            raise InvalidInput(
                "a prompt's text has a line '# system', the system prompt, a line '# user', and the user's message"
            )
        places = set(_PLACE.findall(text))
        unknown = sorted(places - set(PLACES))
        if unknown:
            raise InvalidInput(f"no place {{{unknown[0]}}} in a prompt; there are: {', '.join(f'{{{p}}}' for p in PLACES)}")
        for name in ("turns", "description"):
            if name not in places:
                raise InvalidInput(f"a prompt's text has the place {{{name}}}, else the judge would not see the {name}")
        return cls(found["system"], found["user"])

    def filled(self, values: Mapping[str, str]) -> list[dict[str, Any]]:
        """Messages with values in the places."""

        def fill(text: str) -> str:
            return _PLACE.sub(lambda m: values[m[1]], text)

        return [{"role": "system", "content": fill(self.system)}, {"role": "user", "content": fill(self.user)}]


@cache
def built_in(order: str) -> Template:
    """The prompt that comes with Odograph: `rubric` first or `session` first."""
    return Template.of((Path(__file__).parent / "prompts" / f"{order}_first.md").read_text())


def read_template(path: str | Path) -> Template:
    """A user's prompt. Raises NotFound, InvalidInput."""
    try:
        return Template.of(Path(path).expanduser().read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"the prompt {str(path)!r} can't be read: {error}") from None


class Session(msgspec.Struct, frozen=True):
    """A session as lines: one per turn, safe to stand in a prompt. `texts` are what quotes are looked for in, by turn from 1, and
    `steps` the step of each turn."""

    lines: list[str]
    texts: list[str]
    steps: list[int | None]


def session_of(turns_json: str, *, with_steps: bool = False) -> Session:
    """The session of a `turns_json`; what is no list of turns is shown as it is. `with_steps`: lines state the steps of turns."""
    try:
        turns = json.loads(turns_json or "[]")
    except (ValueError, RecursionError):
        turns = [{"content": turns_json}]
    if not isinstance(turns, list):
        turns = [turns]
    lines: list[str] = []
    texts: list[str] = []
    steps: list[int | None] = []
    for number, turn in enumerate(turns, 1):
        said = turn if isinstance(turn, dict) else {"content": turn}
        kept = {k: v for k, v in said.items() if k not in ("tokens", "duration_ms", "metadata") and v not in (None, "", [], {})}
        about = said.get("metadata")
        step = about.get("step") if isinstance(about, dict) else None
        steps.append(step if type(step) is int else None)
        place = {"step": steps[-1]} if with_steps and steps[-1] is not None else {}
        lines.append(safe({"turn": number, **place, **kept}))
        texts.append("\n".join(v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in kept.values()))
    return Session(lines, texts, steps)


def safe(value: Any) -> str:
    """JSON in which no tag can stand, and no picture."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=repr).encode("utf-8", "replace").decode()
    return without_bytes(text).replace("<", "\\u003c")


def room(context: int | None, answer: int, rest: int) -> int | None:
    """Bytes that turns may take: of a context and an answer in tokens, beside a prompt of `rest` bytes. None: no limit."""
    return None if context is None else max(_LEAST, (context - answer) * _BYTES_PER_TOKEN - rest - 200)


def cut_middle(lines: list[str], most: int | None) -> tuple[list[str], int]:
    """The lines that fit, from both ends, with a line in between that says what was left out; and how many were left out.

    A line that is too long for its share is cut in its own middle, which counts as left out too.
    """
    if most is None or sum(len(line.encode()) + 1 for line in lines) <= most:
        return lines, 0
    share = max(200, most // 4)
    short = [_shortened(line, share) for line in lines]
    head: list[int] = []
    tail: list[int] = []
    left = most - 120
    first, last = 0, len(lines) - 1
    while first <= last:
        front = len(head) <= len(tail)
        at = first if front else last
        size = len(short[at].encode()) + 1
        if size > left:
            break
        left -= size
        if front:
            head.append(at)
            first += 1
        else:
            tail.append(at)
            last -= 1
    shown = [short[n] for n in head]
    if first <= last:
        size = sum(len(lines[n]) for n in range(first, last + 1))
        shown.append(f'{{"left_out":"turns {first + 1} to {last + 1}, {size} characters"}}')
    shown += [short[n] for n in reversed(tail)]
    omitted = last - first + 1 + sum(short[n] != lines[n] for n in (*head, *tail))
    return shown, omitted


def segments(lines: list[str], most: int | None) -> list[list[str]]:
    """Lines in consecutive parts that each fit; a line that is too long for a part is cut in its middle."""
    if most is None:
        return [lines]
    parts: list[list[str]] = [[]]
    size = 0
    for line in lines:
        line = _shortened(line, most)
        more = len(line.encode()) + 1
        if parts[-1] and size + more > most:
            parts.append([])
            size = 0
        parts[-1].append(line)
        size += more
    return parts


def _shortened(line: str, most: int) -> str:
    data = line.encode()
    if len(data) <= most:
        return line
    keep = max(20, (most - 60) // 2)
    start, end = data[:keep].decode(errors="ignore"), data[-keep:].decode(errors="ignore")
    return f"{start} ...[{len(line) - len(start) - len(end)} characters left out]... {end}"
