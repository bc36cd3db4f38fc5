"""Sessions that other tools recorded -> records. One source format a file; found by content, never by the file's name alone.

An importer is a module, or any object, with the parts of `Importer`. Our own are the modules of `formats/`; a package brings
others by an entry point (`odograph.importers`), a user by a file. Each importer says how sure its signs are (`SURE`, from 0
to 100; 50 where it says nothing). The surest are asked first, and importers that a user names are asked before all others. An
import warns of sessions without a call of a model or a tool, but where the importer says that its files hold none (`BARE`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

from ..codec import loads
from ..errors import InvalidInput, described
from ..plugins import Door
from . import peek
from .session import Importer, Lines, NotBegun, Session, parse_time

__all__ = ["NAMES", "Importer", "Lines", "NotBegun", "Session", "find", "names", "parse_time", "recognise", "sessions_in"]

DOOR = Door("importer", "odograph.importers", "odograph.importers.formats", ("NAME", "recognise", "read"))
_HEAD = 64 * 1024
_LINE = 4 * 1024 * 1024  # a first line that is longer than the head is looked at as a whole, up to this
_SURE = 50  # where an importer does not say how sure it is
_ODD = 3  # rows at the beginning of a file that may be of another shape, or empty
_NO_SESSIONS = (".git", ".venv", "node_modules", "__pycache__")


def _sure(importer: Importer) -> int:
    return -getattr(importer, "SURE", _SURE)


#: Our own, in the order in which they are asked.
NAMES: tuple[str, ...] = tuple(importer.NAME for importer in sorted(DOOR.builtin(), key=_sure))


def names() -> list[str]:
    """The names of all formats: our own and those of installed packages."""
    return [*NAMES, *DOOR.offered]


def find(name: str) -> Importer:
    """The importer of a name, of `package:object`, or of a Python file. Raises NotFound, UnknownName, InvalidInput."""
    found = cast(Importer, DOOR.find(name))
    stated: Any = found.NAME
    if not isinstance(stated, str) or not stated:
        raise InvalidInput(f"{name!r} is no importer: NAME is a text, not {stated!r}")
    sure: Any = getattr(found, "SURE", _SURE)
    if isinstance(sure, bool) or not isinstance(sure, (int, float)) or not 0 <= sure <= 100:
        raise InvalidInput(f"{name!r} is no importer: SURE is a number from 0 to 100, not {sure!r}")
    return found


def _asked(more: Iterable[Importer]) -> list[Importer]:
    """All importers in the order in which they are asked, those that the user names first."""
    return [*more, *_known()]


@cache
def _known() -> list[Importer]:
    return sorted(map(find, names()), key=_sure)


def _is_of(importer: Importer, path: Path, head: bytes) -> bool:
    try:
        return bool(importer.recognise(path, head))
    except OSError:  # not ours to read
        return False
    except Exception as error:  # another's code
        raise InvalidInput(f"the importer {importer.NAME!r} can't look at {str(path)!r}: {described(error)}") from error


def recognise(path: Path, more: Iterable[Importer] = (), dress: Callable[[bytes], bytes] = bytes) -> Importer | None:
    """The importer whose format a file or folder is in, or None. `more`: importers that are asked first. `dress`: what the first
    bytes of a file are read as."""
    head = line = b""
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(_HEAD).removeprefix(b"\xef\xbb\xbf")
            head = dress(start)
            if dress is bytes and len(start) > _HEAD - 3 and start.startswith(b"{") and b"\n" not in start:
                line = start + file.readline(_LINE)
        if not head and dress is not bytes:
            return None
    try:
        found = _first_of(path, head, more)
        return found if found is not None or len(line) > _LINE else _first_of(path, line, more) if line else None
    finally:
        peek.forget()


def _first_of(path: Path, head: bytes, more: Iterable[Importer]) -> Importer | None:
    for _ in range(_ODD + 1):
        found = next((importer for importer in _asked(more) if _is_of(importer, path, head)), None)
        if found is not None or (head := _without_first(head)) == b"":
            return found
    return None


def _without_first(head: bytes) -> bytes:
    """The lines behind a first line that is a whole JSON value, or that is damaged and stands before one; else nothing."""
    line, _, rest = head.partition(b"\n")
    rest = rest.lstrip()
    return rest if _is_whole(line) or _is_whole(rest.partition(b"\n")[0]) else b""


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(loads(line), dict | list)
    except InvalidInput:
        return False


def sessions_in(path: Path, more: Iterable[Importer] = (), only: Importer | None = None) -> Iterator[Path]:
    """The files below a folder that may hold sessions, and the folders that are a session; a file is itself. Sorted. `only`: the
    importer that says which folders are a session, in place of all importers."""
    yield from _below(path, [only] if only is not None else _asked(more))


def _below(path: Path, importers: list[Importer], *, above: bool = False) -> Iterator[Path]:
    """`above`: the folder was come upon in another. What it holds of a session whose file lies beside it comes with that file."""
    if not path.is_dir():
        yield path
        return
    if any(_is_of(importer, path, b"") for importer in importers):
        yield path
        return
    try:
        children = sorted(path.iterdir())
    except OSError:  # not ours to read: it is named as any other that holds no session
        yield path
        return
    for child in children:
        if os.path.isdir(child):  # no, where nobody may look at it: then it is named as a file that can't be read
            if above and child.name == "subagents" and _is_there(path.with_name(f"{path.name}.jsonl"), importers):
                continue
            if child.name not in _NO_SESSIONS and not os.path.islink(child):  # links may lead round in circles
                yield from _below(child, importers, above=True)
        elif not child.name.startswith(".") or _is_there(child, importers):  # aider's history is hidden
            yield child


def _is_there(path: Path, importers: list[Importer]) -> bool:
    """Whether a session's file can be read as one."""
    return path.is_file() and os.access(path, os.R_OK) and recognise(path, importers) is not None


def read(path: Path, importer: Importer | None = None) -> Iterable[Session]:
    """The sessions of one file or folder. Raises InvalidInput where its format is not known."""
    if importer is None:
        importer = recognise(path)
        if importer is None:
            raise InvalidInput(f"no session of a known format; there are: {', '.join(names())}")
    return importer.read(path)
