"""What belongs to a store and not to one opening: redaction, durability, and when to seal, as `store.json` holds them."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import msgspec

from ..codec import DAMAGE, encode, new_id
from ..errors import InvalidInput, NotFound, StoreError
from ..plugins import load
from ..redact import Redact, Redactor
from .journal import Durability
from .served import Stored

FILE = "store.json"


class Settings(msgspec.Struct, frozen=True, omit_defaults=True):
    """The settings of a store. None: nobody ever set it."""

    redact: Stored | None = None
    durability: Durability | None = None
    #: Bytes of journal beyond which a process that records seals them; 0: never.
    seal_at: int | None = None


_decode = msgspec.json.Decoder(Settings).decode


def settings_in(folder: Path) -> Settings:
    """The settings of the store in a folder. Raises StoreError where they can't be read: then nothing may be written."""
    path = folder / FILE
    try:
        # takes no descriptor: a process that has none left is told, too, that there is no file
        if stat.S_ISFIFO(path.stat().st_mode):
            raise OSError("it is a pipe, from which a reader would wait for ever")
        return _decode(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return Settings()
    except (OSError, *DAMAGE) as error:
        raise StoreError(f"{str(path)!r}, which holds the store's redaction, can't be read ({error})") from None


def write(path: Path, settings: Settings, mode: int) -> None:
    """Writes the settings, whole or not at all."""
    new = path.with_name(f".{FILE}.{new_id()}")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.write(fd, encode(msgspec.to_builtins(settings)) + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(new, path)


def both(stored: Settings, asked: Settings) -> Settings:
    """The stored settings, filled up with the settings that were asked for."""
    return Settings(
        redact=(asked.redact or None) if stored.redact is None else stored.redact,
        durability=asked.durability if stored.durability is None else stored.durability,
        seal_at=asked.seal_at if stored.seal_at is None else stored.seal_at,
    )


def said(stored: Any) -> str:
    """A setting for messages. Patterns are counted and not shown, because a pattern may be a secret itself."""
    if isinstance(stored, list):
        return "1 pattern" if len(stored) == 1 else f"{len(stored)} patterns"
    return repr(stored)


def stored_form(redact: Redact | str | None) -> Stored | None:
    """`redact=` as `store.json` holds it. Raises TypeError, and InvalidInput for a function that can't be imported."""
    if redact is None or isinstance(redact, bool):
        return redact
    if isinstance(redact, str):
        if ":" not in redact:
            raise TypeError("redact is True, a list of patterns, or a function of a text or its name ('package:object'); not str")
        where, _, what = redact.partition(":")
        return f"{Path(where).resolve()}:{what}" if where.endswith(".py") else redact
    if callable(redact):
        return _name_of(redact)
    given = list(redact) if isinstance(redact, Iterable) and not isinstance(redact, bytes) else redact
    Redactor(given)  # refuses what is none
    patterns: list[str | tuple[str, int]] = []
    for pattern in cast(list[Any], given):
        if isinstance(pattern, str):
            patterns.append(pattern)
        elif isinstance(pattern.pattern, str):
            flags = int(pattern.flags) & ~re.UNICODE
            patterns.append((pattern.pattern, flags) if flags else pattern.pattern)
        else:
            raise InvalidInput("a pattern of redact= matches bytes; a pattern that matches text was expected")
    return patterns or True


def _name_of(function: Any) -> str:
    """The name by which another process imports a function. Raises InvalidInput if there is none."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    home = sys.modules.get(module) if isinstance(module, str) else None
    found = getattr(home, name, None) if isinstance(name, str) and home is not None else None
    if found is function and module is not None:
        if module != "__main__" and not module.startswith("odograph_plugin_"):
            return f"{module}:{name}"
        file = getattr(home, "__file__", None)
        if isinstance(file, str) and file.endswith(".py"):
            return f"{Path(file).resolve()}:{name}"
    raise InvalidInput(
        f"redact={name or function!r} can't be imported by other processes that write to the store;"
        " define it at the top of a module, or name it as 'package:object' or 'file.py:name'"
    )


def redactor_of(stored: Stored | None, function: Callable[[str], str] | None = None) -> Redactor | None:
    """The redactor of a stored setting. Raises OdographError if its function can't be loaded."""
    if isinstance(stored, str):
        found = function if function is not None else load(stored)
        if not callable(found):
            raise NotFound(f"{stored!r} is no function")
        return Redactor(found)
    if isinstance(stored, list):
        return Redactor([one if isinstance(one, str) else re.compile(one[0], one[1]) for one in stored])
    return Redactor.of(stored)


def redactor_in(folder: Path) -> Redactor | None:
    """The redaction of the store in a folder, for what is written beside its journal; None where there is none. Raises StoreError
    where nobody knows, OdographError where its function can't be loaded."""
    return redactor_of(settings_in(folder).redact)
