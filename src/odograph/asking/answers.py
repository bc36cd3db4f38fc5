"""Raw answers, by the hash of what was asked: on disk, one file per process and a line per answer, or in memory. Knows no model.

A line is written to the operating system before the answer is read: a process that is killed has lost nothing that it paid for.
Where the judge works for a store that redacts, answers are kept without secrets.
"""

from __future__ import annotations

import os
import time
import weakref
from collections import Counter
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from .. import locks
from ..codec import DAMAGE, encode, loads_or_raw, new_id
from ..errors import StoreError
from ..redact import Redactor
from ..store.journal import file_mode
from ..store.lines import complete_lines


class _Line(msgspec.Struct):
    key: str


class _Whole(msgspec.Struct):
    body: str


_key = msgspec.json.Decoder(_Line)
_whole = msgspec.json.Decoder(_Whole)


#: Those of folders that are open in this process: what one judge was answered, the next one knows.
_open: WeakValueDictionary[Path, Answers] = WeakValueDictionary()


def answers_in(folder: Path | None, redactor: Redactor | None = None) -> Answers:
    """The answers in a folder, one object for all that ask in this process. `redactor`: that of the store they are for."""
    if folder is None:
        return Answers(None)
    found = _open.get(folder)
    if found is None or found.process != os.getpid() or found.is_gone:  # of a parent process, or deleted since
        found = _open[folder] = Answers(folder)
    found.redactor = redactor or found.redactor
    return found


class Answers:
    """The answers in a folder: those of other processes, as they stood when it last caught up, and this one's own. Without a
    folder they are in memory, and gone with this object."""

    def __init__(self, folder: Path | None) -> None:
        self.process: int = os.getpid()
        self.redactor: Redactor | None = None
        self._file: int | None = None
        self._lock = locks.Lock()
        self._held: dict[str, list[bytes]] = {}
        self._path = None if folder is None else folder / f"{new_id()}.jsonl"
        self._end = 0
        #: Where the answers to a question stand: (file, offset), oldest first.
        self._places: dict[str, list[tuple[Path, int]]] = {}
        self._folder = folder
        self._read: dict[Path, int] = {}  # how far the files of others are known
        self.catch_up()

    def catch_up(self) -> None:
        """Learns of the answers that other processes got since."""
        for path in [] if self._folder is None else sorted(self._folder.glob("*.jsonl")):
            if path == self._path:
                continue
            for offset, line in complete_lines(path, self._read.get(path, 0)):
                self._read[path] = offset + len(line) + 1
                try:
                    self._places.setdefault(_key.decode(line).key, []).append((path, offset))
                except DAMAGE:  # it costs itself alone: it is asked again
                    continue

    @property
    def is_gone(self) -> bool:
        """Whether somebody deleted the file that this process writes."""
        return self._file is not None and self._path is not None and not self._path.exists()

    def put(self, key: str, model: str, body: bytes) -> None:
        """Keeps a body as it came, or without secrets. Raises StoreError: what can't be kept is not worth paying for."""
        if self._path is None:
            self._held.setdefault(key, []).append(body)
            return
        text = body.decode("utf-8", "replace")
        if self.redactor is not None:
            text, model = _without_secrets(text, self.redactor), self.redactor.text(model, Counter())
        line = encode({"key": key, "time": time.time_ns(), "model": model, "body": text}) + b"\n"
        with self._lock:
            try:
                if self._file is None:
                    mode = file_mode(self._path.parent.parent / "journal")  # as open as the store that it stands in
                    self._path.parent.mkdir(0o700 if mode == 0o600 else 0o777, parents=True, exist_ok=True)
                    self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, mode)
                    weakref.finalize(self, os.close, self._file)
                written = 0
                while written < len(line):
                    written += os.write(self._file, line[written:])
            except OSError as error:
                raise StoreError(f"the judge's journal {str(self._path)!r} can't be written: {error.strerror}") from error
            self._places.setdefault(key, []).append((self._path, self._end))
            self._end += len(line)

    def of(self, key: str) -> list[bytes]:
        """The bodies that were answered to a question, oldest first."""
        found = list(self._held.get(key, ()))
        for path, offset in self._places.get(key, ()):
            try:
                with path.open("rb") as file:
                    file.seek(offset)
                    found.append(_whole.decode(file.readline()).body.encode())
            except (OSError, *DAMAGE):
                continue
        return found

    def sync(self) -> None:
        """Waits until what was written is on the disk, against power loss."""
        if self._file is not None:
            os.fdatasync(self._file)


def clean(said: Any, redactor: Redactor | None) -> Any:
    """A body, or a sentence about one, as it is kept: without what the store takes out that it is for."""
    return said if redactor is None else redactor.value(_inside(said, redactor, Counter()), Counter())


def _without_secrets(text: str, redactor: Redactor) -> str:
    """A body without what a store takes out; it stays JSON, and so do the texts in it that are JSON."""
    found: Counter[str] = Counter()
    if not redactor.may_find(text):
        return text
    body = loads_or_raw(text.encode())
    if not isinstance(body, (dict, list)):
        return redactor.text(text, found)
    kept = redactor.value(_inside(body, redactor, found), found)
    return encode(kept).decode() if found else text


def _inside(value: Any, redactor: Redactor, found: Counter[str], depth: int = 0) -> Any:
    """A value in which texts that are JSON were redacted as values, so that they are read as before."""
    if depth > 50:  # a body nests less; `Redactor.value` looks at the rest
        return value
    if isinstance(value, dict):
        return {name: _inside(one, redactor, found, depth + 1) for name, one in value.items()}
    if isinstance(value, list):
        return [_inside(one, redactor, found, depth + 1) for one in value]
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        inner = loads_or_raw(value.encode("utf-8", "replace"))
        if isinstance(inner, (dict, list)):
            kept = redactor.value(inner, found)
            return value if kept is inner else encode(kept).decode()
    return value
