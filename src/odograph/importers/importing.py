"""Many files of sessions into a store: which files, and what becomes of each. A file that can't be read costs itself alone."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..bulk import rarely_collected
from ..errors import InvalidInput, MissingExtra, NotFound, OdographError, StoreError
from ..redact import Redactor
from ..store import writing
from ..store.backend import Backend
from ..types import Action, Context, LLMCall
from . import Importer, NotBegun, Session, find, names, recognise, sessions_in
from .packed import as_lines, in_lines, is_zip, members, unpacked
from .tabular import as_rows, is_table

_LOOK = 20  # rows of a table by which it is known


class ImportReport(msgspec.Struct):
    """What an import did: counts of trajectories, the files that failed, and what was new."""

    imported: int = 0
    skipped: int = 0
    failed: list[dict[str, str]] = []
    trajectories: list[dict[str, str]] = []
    warnings: list[dict[str, Any]] = []
    unrecognised: list[str] = []


def import_files(
    backend: Backend,
    paths: Iterable[str | Path],
    *,
    format: str = "auto",
    importers: str | Iterable[str | Importer] = (),
    progress: Callable[[Path, int, int], None] | None = None,
    skip_empty: bool = False,
) -> ImportReport:
    """Imports files, or folders with files: see `Store.import_sessions`."""
    redactor = backend.sink.redactor  # first: for a store that can't be written nothing is read
    importer = None if format == "auto" else find(format)
    more = [find(one) if isinstance(one, str) else one for one in ([importers] if isinstance(importers, str) else importers)]
    report = ImportReport()
    found: list[tuple[Path, bool]] = []
    for path in map(Path, paths):
        if not path.exists():
            raise NotFound(f"no file or folder {str(path)!r}")
        found += [(p, p == path and not skip_empty) for p in sessions_in(path, more, importer)]
    into = _Import(importer, more, backend, redactor, report)
    for done, (path, named) in enumerate(found):
        if progress is not None:
            progress(path, done, len(found))
        into.add_path(path, path, named)
    if progress is not None and found:
        progress(found[-1][0], len(found), len(found))
    return report


class _Import(NamedTuple):
    """An import under way: the importer that the user asked for, those that are asked first, the store, and what became."""

    importer: Importer | None
    more: list[Importer]
    backend: Backend
    redactor: Redactor | None
    report: ImportReport

    def add_path(self, path: Path, packed: Path, named: bool) -> None:
        """Adds what a file in any dress, or a folder, holds. `packed`: what is read for `path`."""
        try:
            if packed.exists() and not packed.is_file() and not packed.is_dir():  # reading a pipe waits for a writer
                self._failed(path, "a pipe, a socket or a device; expected a file or a folder", named)
                return
            if packed.exists() and not os.access(packed, os.R_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            with unpacked(packed) as file, rarely_collected(file.stat().st_size // 1000):
                self._add_file(path, file, named)
        except StoreError:
            raise
        except NotBegun as error:
            self._failed(path, str(error), named)
        except OSError as error:  # a link may lead nowhere, and a file be gone since it was listed
            self._failed(path, str(error), named or error.errno not in (errno.ENOENT, errno.ELOOP))
        except OdographError as error:
            self._failed(path, str(error))
        except (Exception, SystemExit) as error:  # a format that nobody foresaw costs its own file alone
            self._failed(path, f"the {type(error).__name__} {error} while reading it")

    def _failed(self, path: Path, error: str, told: bool = True) -> None:
        """`told`: whether the user asked for this file. A folder may hold what is no session."""
        if told:
            clean = error if self.redactor is None else self.redactor.text(error, Counter())
            self.report.failed.append({"path": str(path), "error": clean})
        else:
            self.report.unrecognised.append(str(path))

    def _add_file(self, path: Path, file: Path, named: bool) -> None:
        """`file`: what is read for `path`."""
        asked = self.more if self.importer is None else [self.importer]
        one = found = recognise(file, asked)
        if one is None or self.importer not in (None, one):
            try:
                if self._add_dressed(path, file):
                    return
            except (InvalidInput, MissingExtra) as error:
                self._failed(path, str(error), named)
                return
            one = self.importer
        if one is None:
            self._failed(path, f"no session of a known format; there are: {', '.join(names())}", named)
            return
        try:
            self._add_sessions(path, file, self.importer or one)
        except InvalidInput as error:  # nothing of it could be read as it is
            dressed = None if file.is_dir() else recognise(file, asked, as_lines)
            if dressed is not None and self.importer in (None, dressed):
                with in_lines(file) as copy:
                    self._add_sessions(path, copy, dressed)
            elif named or found is not None:
                raise
            else:  # the format was named, and the folder holds other files, too
                self._failed(path, str(error), told=False)

    def _add_dressed(self, path: Path, file: Path) -> bool:
        """Adds what a file holds that no importer knows as it is: a zip, a table, or objects that are not one a line. False where
        nothing of it is known."""
        if is_zip(file):
            with members(file) as folder:
                found = list(sessions_in(folder, self.more, self.importer))
                for inner in found:
                    self.add_path(path / inner.relative_to(folder), inner, named=False)
            return bool(found)
        table = is_table(file)
        if table:
            with as_rows(file, most=_LOOK) as some:
                rows = self.importer or recognise(some, self.more)
        else:
            rows = recognise(file, self.more, as_lines) if self.importer is None else None
        if rows is None:
            return False
        with as_rows(file) if table else in_lines(file) as copy:
            self._add_sessions(path, copy, rows)
        return True

    def _add_sessions(self, path: Path, file: Path, importer: Importer) -> None:
        report = self.report
        for session in _read(importer, file):
            acted = any(isinstance(record, (LLMCall, Action, Context)) for record in session.records)
            if not (acted or getattr(importer, "BARE", False)):
                session.warn("no call of a model or a tool was found in the file")
            if session.warnings:
                report.warnings.append({"path": str(path), "trajectory": session.id, **session.warnings})
            id, new = writing.add(self.backend.sink, self.backend.reader, session.records)
            if new:
                report.imported += 1
                report.trajectories.append({"id": id, "source": str(path), "format": session.format})
            else:
                report.skipped += 1


def _read(importer: Importer, file: Path) -> Iterator[Session]:
    """The sessions of a file. Raises OdographError where a stranger's importer gives anything else."""
    found: Any = importer.read(file)
    for session in found if isinstance(found, Iterable) else [found]:
        if not isinstance(session, Session):
            given = type(session).__name__
            raise OdographError(f"the importer {importer.NAME!r} gave an object of type {given}; sessions were expected")
        yield session
