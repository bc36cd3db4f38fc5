"""Sessions that other tools recorded -> records. One source format a file; found by content, never by the file's name alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import cast

from ..errors import InvalidInput, UnknownName
from ..plugins import entry_points, load
from .session import Importer, Lines, Session, parse_time

__all__ = ["NAMES", "Importer", "Lines", "Session", "find", "names", "parse_time", "recognise", "sessions_in"]

#: Asked in this order: those that need the surest signs first, OpenAI chat lines last.
NAMES: tuple[str, ...] = (
    "odograph",
    "claude-code",
    "codex",
    "gemini-cli",
    "inspect",
    "atif",
    "openhands",
    "swe-agent",
    "mini-swe-agent",
    "tau-bench",
    "tau2-bench",
    "eliza",
    "aworld",
    "openai-chat",
)
_HEAD = 64 * 1024
_NO_SESSIONS = (".git", ".venv", "node_modules", "__pycache__")


@cache
def _builtin(name: str) -> Importer:
    return cast(Importer, import_module(f".formats.{name.replace('-', '_')}", __name__))


def names() -> list[str]:
    """The names of all formats: our own and what other packages bring (entry points `odograph.importers`)."""
    return [*NAMES, *entry_points("odograph.importers")]


def find(name: str) -> Importer:
    """The importer of a name, of `package:object`, or of a Python file. Raises NotFound."""
    if name in NAMES:
        return _builtin(name)
    found = load(name, "odograph.importers")
    if found is None:
        raise UnknownName(f"no importer named {name!r}; there are: {', '.join(names())}")
    return cast(Importer, found)


def recognise(path: Path) -> Importer | None:
    """The importer whose format a file or folder is in, or None."""
    head = b""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(_HEAD)
    for name in names():
        importer = find(name)
        if importer.recognise(path, head):
            return importer
    return None


def sessions_in(path: Path) -> Iterator[Path]:
    """The files below a folder that may hold sessions, and the folders that are one; a file is itself. Sorted."""
    if not path.is_dir():
        yield path
        return
    if any(find(name).recognise(path, b"") for name in names()):
        yield path
        return
    try:
        children = sorted(path.iterdir())
    except OSError:  # not ours to read: it is named as any other that holds no session
        yield path
        return
    for child in children:
        if child.is_dir():
            if child.name not in _NO_SESSIONS and not child.is_symlink():  # links may lead round in circles
                yield from sessions_in(child)
        elif not child.name.startswith("."):
            yield child


def read(path: Path, importer: Importer | None = None) -> Iterable[Session]:
    """The sessions of one file or folder. Raises InvalidInput where its format is not known."""
    if importer is None:
        importer = recognise(path)
        if importer is None:
            raise InvalidInput(f"no session of a known format; there are: {', '.join(names())}")
    return importer.read(path)
