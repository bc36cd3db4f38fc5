"""Trajectories out of a store: finds their lines through the catalog, decodes them, and makes calls whole."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .. import locks
from ..bulk import rarely_collected
from ..codec import DAMAGE
from ..errors import NotFound, StoreError
from ..streams import IdsLine, MessageLine, Streams
from ..tables.files import DamagedFile
from ..tables.shared import Shared
from ..trajectory import Trajectory
from ..types import LATE, AnyRecord, End, Start
from .catalog import Catalog
from .columnar import Columns, columns
from .databases import Databases
from .figures import Figures
from .filters import EVERY, Filters
from .lake import Lake, Sealed
from .lines import Damage, File, Gone, complete_lines, decode, is_alive, journals, size_of
from .listing import Fold, Sort
from .settings import FILE, settings_in
from .source import Journals, Raw, Source
from .summary import Facts, Hit, Summary, Used
from .tailing import Tail
from .text import Each

#: Called with what was done so far, and with all that there is to do.
Progress = Callable[[int, int], None]
_Answer = TypeVar("_Answer")
_Method = TypeVar("_Method", bound=Callable[..., Any])


def question(method: _Method) -> _Method:
    """Marks a method of `Reader` that a served store answers for other machines, too. JSON carries its arguments and its answer;
    an argument `progress` stays here."""
    method.is_question = True  # type: ignore[attr-defined]
    return method


class Reader:
    """Reads one store folder. Every question first catches up with the records that were written since the last question."""

    def __init__(self, root: Path, before: Callable[[], None] = lambda: None, shared: Shared | None = None) -> None:
        """`before` is called before each question: what this process still holds is written then. `shared`: where the sealed
        tier is that machines share."""
        self._root = root
        self._before = before
        self._journal = root / "journal"
        #: The sealed tier.
        self.lake: Lake = Lake(root, shared)
        #: The databases that questions in SQL ask.
        self.databases: Databases = Databases()
        self._opened: Catalog | None = None
        self._opening = locks.for_forks()  # two threads' first questions open one catalog, not two that get in each other's way

    def forget(self) -> None:
        """Deletes the catalog. The next question makes a new catalog."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            (self._root / f"catalog.sqlite{suffix}").unlink(missing_ok=True)

    @property
    def catalog(self) -> Catalog:
        """The catalog, caught up with the journal. Raises NewerStore if a later version of Odograph wrote to the store."""
        return self._caught_up()

    def _caught_up(self, *, text: bool = False, each: Each | None = None) -> Catalog:
        with self._opening:
            if self._opened is None:
                self._opened = Catalog(self._root / "catalog.sqlite", self._journal, self.lake)
            opened = self._opened
        self._before()
        opened.catch_up(text=text, each=each)
        return opened

    def look(self) -> None:
        """Catches up with the journal. `read` alone does not catch up."""
        _ = self.catalog

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        self.databases.close()
        self.lake.close()

    def known(self, id: str) -> Trajectory | None:
        """The trajectory with this whole id; None if the store has none."""
        try:
            return self._load(self.catalog, id)
        except NotFound:
            return None

    def look_at(self, id: str, look: Callable[[Iterator[Raw]], _Answer]) -> _Answer:
        """What `look` makes of the lines of the trajectory with this whole id. It is called again if a file vanishes meanwhile,
        and raises NotFound if it finds no record."""
        return self._look_at(self.catalog, id, look)

    def trajectory(self, id: str) -> Trajectory:
        """The trajectory with this id, or this unique prefix or suffix of one. Raises NotFound."""
        catalog = self.catalog
        return self._load(catalog, catalog.find(id))

    def _sources(self, catalog: Catalog) -> tuple[Source, ...]:
        return (Journals(catalog.places), Sealed(self.lake, catalog.parts))  # in this order: what is sealed meanwhile is in both

    def _load(self, catalog: Catalog, id: str) -> Trajectory:
        found = self._look_at(catalog, id, lambda lines: assembled(id, lines, catalog.alive_writers))
        found.beside = self.trajectory
        return found

    def _look_at(self, catalog: Catalog, id: str, look: Callable[[Iterator[Raw]], _Answer]) -> _Answer:
        def lines() -> Iterator[Raw]:
            found = False
            while True:
                for source in self._sources(catalog):
                    for one in source.lines(id):
                        found = True
                        yield one
                if found or not catalog.misses(id):
                    return
                catalog.check(f"it has no line of trajectory {id!r}")

        try:
            return _whole(catalog, lambda: look(lines()))
        except NotFound:
            self._check_whole(catalog, id)
            raise

    def _check_whole(self, catalog: Catalog, id: str) -> None:
        """Raises DamagedFile if no record of a trajectory can be read because a file is damaged."""
        for _ in self.lake.rows(catalog.parts(id)):
            break

    def raw(self, ids: Iterable[str], *, find: bool = False) -> Iterator[tuple[str, list[Raw], set[str]]]:
        """Of each trajectory its whole id, its lines as they were written, and the writers that are alive. `find`: the ids may be
        parts of ids. Those of which there is nothing have no lines. Raises NotFound with `find`."""
        catalog = self.catalog
        for id in ids:
            whole = catalog.find(id) if find else id
            raw = self._look_at(catalog, whole, list)
            if find and not raw:
                self._check_whole(catalog, whole)
            yield whole, raw, catalog.alive_writers()

    def writers(self, id: str) -> set[str]:
        """The writers of a trajectory's records that still hold their journal files."""
        alive = self.alive()
        return {r.writer for r in self.trajectory(id).records if r.writer in alive}

    @question
    def alive(self) -> set[str]:
        """The writers that still hold their journal files, and so may write more."""
        return self.catalog.alive_writers()

    @question
    def there(self, ids: list[str]) -> list[str]:
        """The ids, of the given whole ids, that the store has."""
        return [row[0] for row in self.catalog.rows(ids)]

    @question
    def scored(self, source: str, author: str, version: str) -> dict[str, int]:
        """By trajectory: how many targets have all their rewards by this version of a function."""
        return self.catalog.scored(source, author, version)

    @question
    def facts(self, id: str) -> tuple[str, Facts]:
        """The whole id of a trajectory, and the facts that an appended record needs. Reads no record. Raises NotFound."""
        catalog = self.catalog
        whole = catalog.find(id)
        return whole, catalog.facts(whole)

    def trajectories(self, filters: Filters = EVERY) -> Iterator[Trajectory]:
        """Trajectories one at a time, oldest first."""
        yield from self.read(summary.id for summary in self.summaries(filters))

    def read(self, ids: Iterable[str]) -> Iterator[Trajectory]:
        """The trajectories with these whole ids, as of when the catalog last caught up; those that can't be read are left out."""
        for id in ids:
            with suppress(NotFound, DamagedFile):  # damage took all of its records: `damages` tells; the others are to be had
                yield self._load(self.catalog if self._opened is None else self._opened, id)

    def summaries(self, filters: Filters = EVERY, *, newest_first: bool = False) -> Iterator[Summary]:
        """Summaries, oldest first unless the newest are asked for first; read from the catalog alone."""
        yield from self.catalog.summaries(filters, newest_first=newest_first)

    @question
    def count(self, filters: Filters = EVERY) -> int:
        """The number of trajectories that the filters choose; counted in the catalog."""
        return self.catalog.count(filters)

    @question
    def page(self, filters: Filters, sort: Sort, offset: int, size: int) -> list[Summary]:
        """`size` summaries of the sorted list, from position `offset` on; read from the catalog alone."""
        return self.catalog.page(filters, sort, offset, size)

    @question
    def counts(self, filters: Filters = EVERY) -> dict[str, list[tuple[Any, int]]]:
        """By filter with a fixed choice of values: the values in the store, each with its count."""
        return self.catalog.counts(filters)

    @question
    def folded(self, filters: Filters, sort: Sort, offset: int, size: int) -> tuple[int, list[Fold]]:
        """The number of groups that the filters choose, and `size` of the sorted groups, from position `offset` on."""
        return self.catalog.folded(filters, sort, offset, size)

    @question
    def forks(self, id: str) -> list[tuple[str, int | None]]:
        """The forks of the trajectory with this whole id: the id of each fork, and the step at which the fork begins."""
        return self.catalog.forks(id)

    def figures(self, filters: Filters = EVERY, by: str | None = None) -> Iterator[Figures]:
        """The figures that statistics need, oldest first; read from the catalog alone."""
        yield from self.catalog.figures(filters, by)

    def columns(self) -> Columns | None:
        """The same of all trajectories in one piece, read from the sealed tier; None where that is not quicker."""
        return columns(self.catalog, self.lake)

    @question
    def used(self, ids: list[str]) -> dict[str, Used]:
        """By trajectory: the actions, contexts and models in it, and its rewards by name; read from the catalog alone."""
        return self.catalog.used(ids)

    @question
    def search(self, query: str, limit: int = 100, progress: Progress | None = None) -> list[Hit]:
        """Records and messages that hold all the words of a query ("quoted" for a phrase), newest first. `progress(done, total)`
        counts the bytes that are indexed for it."""
        count = _Count(self._journal, progress)
        catalog = self._caught_up(text=True, each=None if progress is None else count)
        count.over()
        return _whole(catalog, lambda: list(catalog.search(query, limit)))

    @question
    def damages(self, progress: Progress | None = None) -> list[Damage]:
        """Damaged and torn lines of the journal, which is read anew: what was whole when it was catalogued may not be so now.

        `progress(done, total)` counts bytes.
        """
        look = _Look(self._journal, progress)
        catalog = self._caught_up(each=look)
        found = {(d.file, d.offset): d for d in self.lake.damages()}
        found |= {(d.file, d.offset): d for d in catalog.damages()}
        for file in catalog.files():
            until = look.since.get(file.name)
            with suppress(FileNotFoundError):  # sealed meanwhile
                for offset, line in complete_lines(file.path, 0) if until != 0 else ():
                    if until is not None and offset >= until:  # what follows was read a moment ago, to be catalogued
                        break
                    look(file, offset, line)
        look.over()
        for key, damage in look.found.items():
            found.setdefault(key, damage)
        return sorted(found.values(), key=lambda d: (d.file, d.offset))

    def tail(self, count: int, trajectory: str | None) -> Tail:
        """Follows the journal. The first iteration gives the `count` newest records; each later one gives those since."""
        return Tail(self._journal, self._before, count, trajectory, self._sealed_since)

    def _sealed_since(self, time: int, most: int | None, trajectory: str | None) -> list[AnyRecord]:
        """The sealed records that were written after a time; with `most`, the newest of these records."""
        if not self.lake.there():
            return []
        catalog = self.catalog
        ids = [trajectory] if trajectory is not None else catalog.sealed_since(time, most)
        found = [r for t in self.read(ids) for r in t.records if r.time > time]
        found.sort(key=lambda r: (r.time, r.writer, r.seq))
        return found if most is None else found[max(0, len(found) - most) :]

    @question
    def examine(self, progress: Progress | None = None) -> dict[str, Any]:
        """The journal's files with their writers, damage, and the state of the catalog. `progress(done, total)` counts bytes."""
        damages = [*self._settings(), *self.damages(progress)]
        catalog = self.catalog
        catalog.check()
        disk = os.statvfs(self._root)
        files = [
            {"file": f.name, "bytes": size, "writer": f.writer, "alive": is_alive(f.path), "version": f.version}
            for f in catalog.files()
            if (size := size_of(f.path)) >= 0
        ]
        return {
            "store": str(self._root),
            "trajectories": self.count(),
            "unterminated": self.count(Filters(status=("unterminated",))),
            "files": files,
            "journal_bytes": sum(int(str(f["bytes"])) for f in files),
            "sealed": self._examine_sealed(catalog),
            "damages": [msgspec.structs.asdict(d) for d in damages],
            "catalog_in_memory": catalog.in_memory,
            "disk_free": disk.f_bavail * disk.f_frsize,
        }

    def _settings(self) -> list[Damage]:
        """What is wrong with the settings: then nothing may be written."""
        try:
            settings_in(self._root)
        except StoreError as error:
            return [Damage(FILE, 0, f"{error}; nothing can be recorded until the file is put back")]
        return []

    def _examine_sealed(self, catalog: Catalog) -> dict[str, Any]:
        """The sealed tier's figures, and how many bytes of the journal are not sealed yet."""
        sealed = self.lake.sealed_to() if self.lake.exists else {}
        waiting = sum(max(0, size_of(f.path) - sealed.get(f.name, 0)) for f in catalog.files())
        return {"unsealed_bytes": waiting, "unsealed_trajectories": len(catalog.unsealed()), **self.lake.examine()}


def _whole(catalog: Catalog, ask: Callable[[], _Answer]) -> _Answer:
    """An answer out of files, which may be sealed between the look into the catalog and the reading."""
    for _ in range(_ATTEMPTS):
        try:
            return ask()
        except Gone:
            catalog.look()
    catalog.check("it names files that are not there")
    return ask()


class _Count:
    """Counts the bytes of lines, for a progress bar."""

    def __init__(self, journal: Path, progress: Progress | None) -> None:
        self._progress = progress
        self._done = self._told = 0
        self._total = sum(map(size_of, journals(journal))) if progress is not None else 0

    def __call__(self, file: File, offset: int, line: bytes) -> None:
        self._done += len(line) + 1
        if self._progress is not None and self._done - self._told > _TOLD:
            self._told = self._done
            self._progress(min(self._done, self._total), self._total)

    def over(self) -> None:
        if self._told:
            assert self._progress is not None
            self._progress(self._total, self._total)


class _Look(_Count):
    """Looks for damage in lines."""

    def __init__(self, journal: Path, progress: Progress | None) -> None:
        super().__init__(journal, progress)
        self.found: dict[tuple[str, int], Damage] = {}
        #: From where on it was given the lines of each file.
        self.since: dict[str, int] = {}

    def __call__(self, file: File, offset: int, line: bytes) -> None:
        super().__call__(file, offset, line)
        self.since[file.name] = min(offset, self.since.get(file.name, offset))
        try:
            if line:
                decode(line, file.writer, file.version)
        except DAMAGE as error:
            self.found[file.name, offset] = Damage(file.name, offset, str(error))


def assembled(id: str, raw: Iterable[Raw], alive: Callable[[], set[str]]) -> Trajectory:
    """The trajectory with these lines. `alive`: the writers that may write more. Raises NotFound if no line is readable."""
    with rarely_collected():  # the objects of a long trajectory all stay: looks for garbage took half of the time
        return _assembled(id, raw, alive)


def _assembled(id: str, raw: Iterable[Raw], alive: Callable[[], set[str]]) -> Trajectory:
    records: list[AnyRecord] = []
    streams = Streams(partial(_incomplete, id))
    seen: set[str] = set()
    for writer, version, data in raw:
        for text in io.BytesIO(data):  # a list of lines would be all of it again
            try:
                line = decode(text, writer, version) if text != b"\n" else None
            except DAMAGE:
                _left_out(id)
                continue
            if isinstance(line, (MessageLine, IdsLine)):
                streams.add(writer, line)
            elif line is not None and line.id not in seen:  # it may be in two tiers, or be written again after a failure
                seen.add(line.id)
                records.append(line)
    if not records:
        raise NotFound(f"trajectory {id!r} has no readable record")
    return Trajectory(id, records, streams, live=_may_go_on(records) and _is_written(records, alive()))


@lru_cache(1000)
def _left_out(id: str) -> None:
    """Warns once of each trajectory that has a line which can't be read."""
    from ..log import logger

    logger.warning("trajectory %r has a damaged line, which is left out: `odograph doctor` lists damaged lines", id)


@lru_cache(1000)
def _incomplete(id: str) -> None:
    """Warns once of each trajectory in which a call refers to what no line holds."""
    from ..log import logger

    logger.warning(
        "trajectory %r has a call that refers to messages or token ids which no line holds; the call stands without", id
    )


def _may_go_on(records: list[AnyRecord]) -> bool:
    """Whether a trajectory has no end, and was recorded here."""
    return not any(isinstance(r, End) or (isinstance(r, Start) and "source" in r.metadata) for r in records)


def _is_written(records: list[AnyRecord], alive: set[str]) -> bool:
    return bool(alive) and any(r.writer in alive and not isinstance(r, LATE) for r in records)


_TOLD = 1 << 20  # bytes between two steps of a bar
_ATTEMPTS = 4  # how often a trajectory is looked for again whose files vanish while they are read
