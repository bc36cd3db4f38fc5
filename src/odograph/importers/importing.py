"""Many files of sessions into a store: which files, and what becomes of each. A file that can't be read costs itself alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from ..bulk import rarely_collected
from ..errors import InvalidInput, NotFound, OdographError, StoreError
from ..types import AnyRecord, End, Start, StepStart
from . import Importer, NotBegun, find, names, recognise, sessions_in
from .packed import as_lines, in_lines, unpacked

#: Adds the records of a trajectory to a store: its id, and how many records were new.
Add = Callable[[list[AnyRecord]], tuple[str, int]]


class ImportReport(msgspec.Struct):
    """What an import did: counts of trajectories, the files that failed, and what was new."""

    imported: int = 0
    skipped: int = 0
    failed: list[dict[str, str]] = []
    trajectories: list[dict[str, str]] = []
    warnings: list[dict[str, Any]] = []
    unrecognised: list[str] = []


def import_files(
    paths: list[Path],
    add: Add,
    *,
    format: str = "auto",
    importers: Iterable[str | Importer] = (),
    progress: Callable[[Path, int, int], None] | None = None,
    clean: Callable[[str], str] = str,
    skip_empty: bool = False,
) -> ImportReport:
    """Imports files, or folders with files: see `Store.import_sessions`. `clean` takes secrets out of the text of an error."""
    importer = None if format == "auto" else find(format)
    more = [find(one) if isinstance(one, str) else one for one in importers]
    report = ImportReport()
    found: list[tuple[Path, bool]] = []
    for path in paths:
        if not path.exists():
            raise NotFound(f"no file or folder {str(path)!r}")
        found += [(p, p == path and not skip_empty) for p in sessions_in(path, more, importer)]
    for done, (path, named) in enumerate(found):
        if progress is not None:
            progress(path, done, len(found))
        try:
            with unpacked(path) as file, rarely_collected(file.stat().st_size // 1000):
                _import_file(path, file, importer, more, named, add, report)
        except StoreError:
            raise
        except NotBegun as error:
            if named:
                report.failed.append({"path": str(path), "error": clean(str(error))})
            else:
                report.unrecognised.append(str(path))
        except (OdographError, OSError) as error:
            report.failed.append({"path": str(path), "error": clean(str(error))})
        except (Exception, SystemExit) as error:  # a format that nobody foresaw costs its own file alone
            report.failed.append({"path": str(path), "error": clean(f"the {type(error).__name__} {error} while reading it")})
    if progress is not None and found:
        progress(found[-1][0], len(found), len(found))
    return report


def _import_file(
    path: Path, file: Path, importer: Importer | None, more: list[Importer], named: bool, add: Add, report: ImportReport
) -> None:
    """`file`: what is read for `path`."""
    one = importer or recognise(file, more)
    asked = more if importer is None else [importer]
    if one is None and (rows := recognise(file, asked, as_lines)) is not None:
        with in_lines(file) as copy:
            _import_sessions(path, copy, rows, add, report)
        return
    if one is None:
        if named:
            known = ", ".join(names())
            report.failed.append({"path": str(path), "error": f"no session of a known format; there are: {known}"})
        else:
            report.unrecognised.append(str(path))
        return
    try:
        _import_sessions(path, file, one, add, report)
    except InvalidInput:  # nothing of it could be read as it is
        if file.is_dir() or one is not recognise(file, asked, as_lines):
            raise
        with in_lines(file) as copy:
            _import_sessions(path, copy, one, add, report)


def _import_sessions(path: Path, file: Path, importer: Importer, add: Add, report: ImportReport) -> None:
    for session in importer.read(file):
        bare = all(isinstance(record, (Start, StepStart, End)) for record in session.records)
        if bare and importer.NAME != "odograph":  # our own copies are whole: a run of ours may have done nothing
            session.warn("nothing was found in it that a model or a tool did")
        if session.warnings:
            report.warnings.append({"path": str(path), "trajectory": session.id, **session.warnings})
        id, new = add(session.records)
        if new:
            report.imported += 1
            report.trajectories.append({"id": id, "source": str(path), "format": session.format})
        else:
            report.skipped += 1
