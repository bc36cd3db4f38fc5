"""What a store is made of, as one thing: the seam below which alone it is known that a store is a folder.

A store has a sink (the journal that this process writes), a reader (the catalog and the sources behind it), locks and places for
small files by name, and a `Place`: what reopens this very store, with its redaction and durability, in another process.

Redaction and durability belong to the store and not to one opening: they stand in `store.json`, which the first write makes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .. import locks
from ..codec import content_hash, new_id
from ..errors import InvalidInput, OdographError, StoreError
from ..tables.shared import Shared
from . import counting, memory, writing
from .journal import Journal, file_mode
from .lines import is_folder
from .served import Served, Stored, Unshipped
from .settings import FILE, Settings, both, redactor_of, said, settings_in, write

if TYPE_CHECKING:  # imported where they are used: who only records neither reads nor seals
    from ..trajectory import Trajectory
    from .compacting import Compaction
    from .publishing import Publication
    from .reader import Reader
    from .sealing import Sealing
    from .shipped import Receiving
    from .shipping import Shipping

_in_memory: weakref.WeakSet[Backend] = weakref.WeakSet()
_SEAL_AT = 1 << 30
_MEASURE_SECONDS = 5.0


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """The values that reopen a store in another process. They can be pickled and sent as JSON."""

    folder: str
    settings: Settings = Settings()
    shared: bool = False
    #: Of a `memory:` store, which stays while a process holds it.
    memory: bool = False
    #: Where the sealed tier is that machines share: then the folder has only what this machine did not seal yet.
    tables: Shared | None = None
    #: Where the store is served: then the folder has only what the server does not have yet.
    remote: Served | None = None


class Backend:
    """One store. Nothing is made on disk before the first write, or the first opening that names a setting of the store."""

    def __init__(self, place: Place, function: Callable[[str], str] | None = None) -> None:
        """`function`: what `place.settings.redact` names, where it is at hand. Raises InvalidInput for other settings than the
        store's."""
        self.folder: Path = Path(place.folder)
        with contextlib.suppress(FileNotFoundError):  # a working folder that is gone
            self.folder = self.folder.absolute()  # the program may go to another working folder
        self._shipping: Shipping | None = None
        self._why_not: str | None = None
        self._unread: str | None = None  # why the stored settings can't be read; it may pass
        if place.remote is not None:
            from .shipping import Shipping

            self._shipping = Shipping(place.remote, self.folder)
            place = self._served(place, self._shipping)
        self._asked = place
        self._function = function
        self._hold = -1
        if place.memory:
            self._hold = memory.hold(self.folder)
            _in_memory.add(self)
        self._signature: tuple[int, int, int] | None = None
        stored = self._stored()
        self.settings: Settings = self._agreed(stored)
        #: The sink, for what asks only how it fares; to write take `sink`.
        self.journal: Journal = Journal(self.folder / "journal", shared=place.shared, prepare=self._prepare)
        self.journal.read = lambda id: self.reader.trajectory(id)
        self._reader: Reader | None = None
        self._opening = locks.for_forks()  # two threads' first questions import and make one reader
        if self._shipping is not None:
            self._shipping.follow(self.journal)
        if place.shared and self.exists and file_mode(self.folder / "journal") == 0o600:
            raise InvalidInput(
                f"the store {self} exists already and is private to its owner; shared=True can be given only when a store is made"
            )
        self._applied: Settings | None = None
        self._measured = -_MEASURE_SECONDS
        self._sealing: threading.Thread | None = None
        if self._shipping is None and self.settings != stored:  # settled now: another process may record before this one does
            with contextlib.suppress(OSError):  # who can't write here records nothing, either
                self.journal.make_folder()
                self._settle()

    def __str__(self) -> str:
        return "memory:" if self._asked.memory else str(self._asked.remote or self._asked.tables or self.folder)

    @property
    def reader(self) -> Reader:
        """The reader of the store, made at the first use."""
        if self._reader is None:
            with self._opening:
                try:
                    from .reader import Reader
                except OSError as error:  # no descriptor is left for the module's file
                    raise StoreError(f"the store {self} can't be read: {error.strerror}") from error

                if self._reader is None and self._shipping is not None:
                    from .asked import Asked

                    self._reader = Asked(self._shipping.line, self._shipping.ready, self.folder)
                elif self._reader is None:
                    self._reader = Reader(self.folder, self.journal.release, self._asked.tables)
        return self._reader

    @property
    def exists(self) -> bool:
        """Whether anything was ever recorded. Raises StoreError where the folder can't be looked into."""
        return self._shipping is not None or is_folder(self.folder / "journal") or self.reader.lake.exists

    @property
    def place(self) -> Place:
        """The place that reopens this store."""
        folder = self.folder if self._shipping is None else self._shipping.base
        return msgspec.structs.replace(self._asked, folder=str(folder.resolve()), settings=self.settings)

    @property
    def here(self) -> Place:
        """The folder of the store on this machine, and the tables that it shares with others."""
        return Place(str(self.folder.resolve()), tables=self._asked.tables)

    @property
    def sink(self) -> Journal:
        """The journal to write to. Raises StoreError if the store's redaction can't be applied: then nothing may be written."""
        if self._unread is not None:
            self.settings = self._agreed(self._stored())
        self._apply()
        why_not = self._why_not or self._unread
        if why_not is not None:
            raise StoreError(f"the store {self} can't be written from here: {why_not}")
        return self.journal

    def beside(self, name: str) -> Path:
        """The folder for small files of one kind, such as a judge's answers. The folder may not exist yet."""
        return self.folder / name

    @contextlib.contextmanager
    def lock(self, name: str, waiting: Callable[[], None] | None = None, *, wait: bool = True) -> Iterator[bool]:
        """Holds a lock of this name among all processes that opened the store; a killed one's is free. `waiting` is called where
        it has to wait. Gives whether the lock is held: always, unless `wait` is false. Raises StoreError."""
        folder = self.folder / "locks"
        mode = file_mode(self.folder / "journal")
        try:
            self.folder.mkdir(mode=_folder_mode(mode), parents=True, exist_ok=True)  # nothing was recorded yet
            folder.mkdir(mode=_folder_mode(mode), exist_ok=True)
            fd = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        except OSError as error:
            raise StoreError(f"a lock can't be made in {str(self.folder)!r}: {error.strerror or error}") from error
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    yield False
                    return
                if waiting is not None:
                    waiting()
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield True
        finally:
            os.close(fd)

    def seal(self, progress: Callable[[int, int], None] | None = None, *, wait: bool = True) -> Sealing | None:
        """Seals what the journal holds, one process at a time; None where another one is sealing and `wait` is false. The file
        of a process in which a trajectory runs stays. Raises MissingExtra, StoreError."""
        self._check_here("sealing")
        if not self.exists:
            from .sealing import Sealing

            return Sealing()
        with self.lock("seal", wait=wait) as alone:
            if not alone:
                return None
            try:
                from .sealing import seal

                if counting.is_open(self.journal):  # its file is what tells others that the trajectory runs
                    self.journal.sync()
                else:
                    self.journal.close()
                self.agree_on_redaction()
                return seal(self.reader.lake, self.folder / "journal", progress)
            except OdographError:
                raise
            except OSError as error:
                raise StoreError(
                    f"the store {self} can't be sealed ({error}); the unsealed records stay in the journal"
                ) from error

    def agree_on_redaction(self) -> None:
        """Machines that share a sealed tier redact alike: the first machine that redacts decides. Raises StoreError."""
        from ..tables.folder import FolderCommits

        commits = self.reader.lake.commits
        if isinstance(commits, FolderCommits):
            return
        mine = "" if not self.settings.redact else content_hash(self.settings.redact)  # patterns may be secrets themselves
        commits.prepare()
        there = commits.key("redact")
        if there is None and mine:
            commits.commit(new_id(), keys={"redact": mine}, expect={"redact": None})
        elif there is not None and there != mine:
            raise StoreError(
                f"this machine redacts in another way than the machines that sealed into {self} before: nothing was"
                f" sealed. The records are in {str(self.folder)!r}; open the store with the others' redact= and a new local="
                " folder, and record again"
            )

    def repair(self, others: Callable[[str], str | None]) -> dict[str, int]:
        """Mends the list of the lake's files, damaged files and the catalog; `others` says which table of others a path is of.
        Of a lake that machines share the list is a catalog of others, which is taken as it is. Raises StoreError."""
        from ..tables.folder import FolderCommits
        from ..tables.rebuilding import rebuild
        from .layout import TABLES
        from .mending import mend
        from .sealing import elsewhere, table_of

        self._check_here("repairing")
        lake = self.reader.lake
        with self.lock("seal"):
            lake.close()
            commits = lake.commits
            here = commits if isinstance(commits, FolderCommits) else None
            if here is not None and (not here.exists or here.wrong(lake.journal_key) is not None):
                found = rebuild(here, table_of(lake, others), elsewhere(lake))
            else:
                tables = TABLES if here is None else here.tables()
                found = {"commits": len(commits.commits()), "files": sum(len(commits.files(one)) for one in tables), "left": 0}
            mended = 0
            if found["files"] and find_spec("pyarrow") is not None:
                mended = mend(lake, lake.damages())
                if here is not None:
                    here.add_sums()
            self.reader.forget()
            return found | {"mended": mended}

    def compact(self, grace: float) -> Compaction:
        """Merges small files of the sealed tier. Raises MissingExtra, StoreError."""
        from .compacting import Compaction, compact

        self._check_here("compacting")
        self.reader.lake.commits.refresh()  # other machines may have sealed since this one looked, and been the first
        if not self.exists:
            return Compaction()
        with self.lock("seal"):
            return compact(self.reader.lake, grace)

    def publish(self, tables: Shared, progress: Callable[[int, int], None] | None = None) -> Publication:
        """Seals, and brings the sealed tier to tables that machines share. Raises InvalidInput, MissingExtra, StoreError."""
        from .publishing import publish

        self.seal()
        target = Backend(Place(str(self.beside("publishing")), self.settings, tables=tables), self._function)

        def add(trajectories: Iterable[Trajectory]) -> None:
            for one in trajectories:
                writing.add(target.sink, target.reader, list(one.complete_records(growing=True)))
            target.seal()

        with closing(target), self.lock("seal"):
            return publish(self.reader, target.reader, add, progress)

    def _check_here(self, what: str) -> None:
        if self._shipping is not None:
            raise InvalidInput(f"{what} the store at {self} is done on the machine that serves it")

    # --- shipping -----------------------------------------------------------------------------------------------------

    def _served(self, place: Place, shipping: Shipping) -> Place:
        """A place with the settings of the store that is served: its redaction, known before anything is written."""
        from .shipping import digest_of

        about, asked = shipping.about(), place.settings
        redact = there = asked.redact or None
        if about is not None and about.right != "record":
            self._why_not = "the token may not record; one with the right `record` was expected"
        elif about is not None:
            if asked.redact is not None and digest_of(redact) != digest_of(about.redact):
                raise InvalidInput(
                    f"the store {shipping.line} has redact={said(about.redact)}, not {said(asked.redact)}; leave redact= out to"
                    " use it"
                )
            there = about.redact or None
            if isinstance(there, str) and not redact:  # a server must not choose what code runs here, or in a worker
                self._why_not = f"it is redacted by the function {there!r}, which runs here if redact= names it"
            else:
                redact = there
        self.folder = shipping.folder(there)
        return msgspec.structs.replace(place, settings=Settings(redact, asked.durability, 0))

    def receiving(self) -> Receiving:
        """The receiver of other machines' journals."""
        from .shipped import Receiving

        self._check_here("recording of other machines into")
        return Receiving(self.folder, self._seal_soon)

    def redaction(self) -> Stored | None:
        """The stored form of the store's redaction. Raises StoreError if `store.json` can't be read."""
        found = both(self._stored(), self.settings)
        why_not = self._why_not or self._unread
        if why_not is not None:
            raise StoreError(why_not)
        return found.redact or None

    def flush(self) -> None:
        """Syncs everything to disk; for a served store, to the server's disk. Raises StoreError if records have to wait."""
        self.journal.sync()
        if self._shipping is not None:
            for folder, files in self._shipping.others():
                self._redacted_anew(folder, files)
            self._shipping.flush()

    def _redacted_anew(self, folder: Path, files: list[Path]) -> None:
        """Records again the trajectories that were redacted in another way, before this machine knew the server's redaction."""
        with self.lock("redact"), closing(Backend(Place(str(folder)))) as source:
            for one in source.reader.trajectories():
                writing.add(self.sink, self.reader, list(one.complete_records(growing=True)))
            self.journal.sync()
            for file in files:
                file.unlink(missing_ok=True)

    def health(self) -> Unshipped:
        """The state of shipping to the server. Nothing waits for a store that is not served."""
        if self._shipping is None:
            return {"unshipped": 0, "unshipped_since": None, "unshipped_why": None}
        return self._shipping.health()

    def close(self) -> None:
        """Syncs and closes all files. Removes a `memory:` store that this process made, with the last that has it open here."""
        self.journal.close()
        if self._shipping is not None:
            self._shipping.close()
        if self._reader is not None:
            self._reader.close()
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1
            if not any(one.folder == self.folder and one._hold >= 0 for one in list(_in_memory)):
                memory.remove(self.folder)

    # --- what belongs to the store -----------------------------------------------------------------------------------

    def _agreed(self, stored: Settings) -> Settings:
        """The stored settings, filled up with the asked ones. Raises InvalidInput if the two differ."""
        asked = self._asked.settings
        for name in ("redact", "durability", "seal_at"):
            here, there = getattr(asked, name), getattr(stored, name)
            if here is not None and there is not None and here != there:
                raise InvalidInput(f"the store {self} has {name}={said(there)}, not {said(here)}; leave {name}= out to use it")
        return both(stored, asked)

    def _stored(self) -> Settings:
        """The settings in `store.json`. As long as the file can't be read, nothing may be written (`_unread`)."""
        self._unread = None
        try:
            return settings_in(self.folder)
        except StoreError as error:
            self._unread = str(error)
            return Settings()

    def _apply(self) -> None:
        """Gives the journal what the settings say. A function is loaded here and not before: who only reads runs no code of a
        store."""
        if self.settings == self._applied:
            return
        self.journal.durability = self.settings.durability or "group"
        if self._why_not is None and (self._applied is None or self.settings.redact != self._applied.redact):
            try:
                self.journal.redactor = redactor_of(self.settings.redact, self._function)
            except OdographError as error:
                self._why_not = f"its redaction {said(self.settings.redact)} can't be loaded: {error}"
        self._applied = self.settings

    def _prepare(self) -> None:
        """Before a journal file is made, and while it is written: the settings go to the store, or those of the store are taken
        over, which another process may have made meanwhile. Raises StoreError where these can't be applied."""
        self._seal_soon()
        if self._asked.memory:  # it may have been closed, or deleted, and is used again
            self._hold = memory.held(self.folder, self._hold)
        try:
            found = os.stat(self.folder / FILE)
            signature = (found.st_ino, found.st_size, found.st_mtime_ns)
        except OSError:
            signature = None
        if signature is None and self.settings == Settings():
            return
        if signature is None or signature != self._signature or self._unread is not None:
            self._settle()
            self._apply()
        why_not = self._why_not or self._unread
        if why_not is not None:
            raise StoreError(why_not)

    def _settle(self) -> None:
        """Writes down the settings that the store does not have yet, and takes over those that it has."""
        path = self.folder / FILE
        with _alone(self.folder / "journal"):  # the folder itself is locked by who uses it in memory
            stored = self._stored()
            merged = both(stored, self.settings)
            if merged != stored and self._why_not is None and self._unread is None:
                write(path, merged, file_mode(self.folder / "journal"))
            found = os.stat(path)
            self._signature = (found.st_ino, found.st_size, found.st_mtime_ns)
        if merged.redact != self._asked.settings.redact:
            self._function = None
        self.settings = merged

    def _seal_soon(self) -> None:
        """Starts sealing in the background if the journal is larger than `seal_at`. Measures the journal every few seconds."""
        most = _SEAL_AT if self.settings.seal_at is None else self.settings.seal_at
        now = time.monotonic()
        if not most or now - self._measured < _MEASURE_SECONDS or (self._sealing is not None and self._sealing.is_alive()):
            return
        self._measured = now
        if self.journal_bytes() > most and find_spec("pyarrow") is not None:
            self._sealing = threading.Thread(target=self._seal_behind, name="odograph-seal", daemon=True)
            self._sealing.start()

    def _seal_behind(self) -> None:
        """Seals. A failure raises nothing: the journal stays, and `odograph doctor` reports it."""
        from .sealing import seal

        with contextlib.suppress(OdographError, OSError), self.lock("seal", wait=False) as alone:
            if alone:
                self.agree_on_redaction()
                seal(self.reader.lake, self.folder / "journal")

    def journal_bytes(self) -> int:
        """The size of all journal files."""
        total = 0
        with contextlib.suppress(OSError), os.scandir(self.folder / "journal") as files:
            for file in files:
                with contextlib.suppress(OSError):
                    total += file.stat().st_size
        return total


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds a lock on a folder itself."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _folder_mode(mode: int) -> int:
    return 0o777 if mode == 0o666 else 0o700
