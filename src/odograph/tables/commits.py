"""Which files of a lake are live, and how they are read: the seam that sealing and readers share.

A commit puts files into tables and takes files out of them, at once and exactly once: the same id commits once. Beside the
files a commit can set keys, and expect keys to have certain values, which is how a world lets one writer in. `folder` has the
commits of a folder, `iceberg` those of tables that machines share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ..errors import StoreError
from .files import DataFile, Opened
from .schema import Table


class Commit(msgspec.Struct, frozen=True):
    """A commit as it was made. `seq` counts from 1; `time` is nanoseconds."""

    seq: int
    id: str
    time: int
    properties: dict[str, Any]


class Live(msgspec.Struct, frozen=True):
    """A live file, and the commit that brought it."""

    file: DataFile
    added: int


class Conflict(StoreError):
    """A key had another value than was expected: somebody else was here first."""


class Commits(Protocol):
    """Which files are live. Implemented by `FolderCommits` and, for a team, by `IcebergCommits`."""

    def commit(
        self,
        id: str,
        add: Iterable[DataFile] = (),
        remove: Iterable[str] = (),
        *,
        properties: Mapping[str, Any] | None = None,
        keys: Mapping[str, str | None] | None = None,
        expect: Mapping[str, str | None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> int:
        """Commits, and returns the commit's seq. An id that was committed before changes nothing and returns its seq.

        `check` is called before anything changes, and again whenever another commit came first; it raises Conflict where the
        commit must not be made. Raises Conflict where a key of `expect` has another value (None: no value), StoreError where
        nothing could be written.
        """
        ...

    def files(self, table: str, since: int = 0) -> list[Live]:
        """The files of a table that are live and that came after commit `since`, in the order of commits."""
        ...

    def latest(self, folder: str, before: str) -> Iterator[Live]:
        """The live files in a folder whose names sort before a name, last first."""
        ...

    def last(self, table: str) -> int:
        """The seq of the last commit that may have changed a table; 0 where there is none."""
        ...

    def find(self, id: str) -> Commit | None:
        """The commit with this id."""
        ...

    def key(self, name: str) -> str | None:
        """The value of a key."""
        ...

    def keys(self, prefix: str) -> dict[str, str]:
        """The keys that begin so and have a value, sorted."""
        ...

    def commits(self, since: int = 0) -> list[Commit]:
        """The commits after one, in their order."""
        ...

    @property
    def exists(self) -> bool:
        """Whether anything was ever committed here."""
        ...

    @property
    def id(self) -> str:
        """Tells one lake from another that took its place."""
        ...

    def prepare(self, tables: Iterable[Table] = ()) -> None:
        """Makes what commits need, so that the first files that are written are never without it. `tables`: more tables, which
        come as they are needed."""
        ...

    def refresh(self) -> None:
        """Looks at what others committed: questions are answered as of the last look, or later."""
        ...

    def untouched(self, id: str) -> bool:
        """Whether nothing of a commit that failed was made, so that its files may go."""
        ...

    def source(self, path: str) -> Any:
        """What a reader of Parquet reads a file from: a path, or an open file. Raises StoreError."""
        ...

    def dataset(self, table: Table, paths: Iterable[str]) -> Any:
        """Files of a table as an Arrow dataset; None where they are files of this machine, which engines read by their paths."""
        ...

    def frame(self, table: str, paths: Iterable[str]) -> Any:
        """Files of a table as a Daft DataFrame. Raises ImportError where Daft is not installed."""
        ...

    def pending(self) -> dict[str, int]:
        """The commits that are under way, or that were left in the middle: their ids, and when they began (nanoseconds)."""
        ...

    def orphans(self) -> list[Path]:
        """Files in the folder, whole or begun, that no commit knows: what a process left that was killed before it committed."""
        ...

    def expire(self, before: int) -> list[str]:
        """Deletes the files that were taken out before a time (nanoseconds); returns their paths. Readers of other processes may
        hold the places of a file that was taken out: they get the time until then."""
        ...

    def settle(self) -> None:
        """Puts what was committed into one file, before what it was made of goes."""
        ...

    def close(self) -> None:
        """Closes connections; they are opened again when needed."""
        ...


def opened_in(commits: Commits, path: str, table: Table | None = None, *, dictionaries: bool = False) -> Opened:
    """A file that commits know, open. Without a table, as the file describes itself. See `Opened`."""
    source = commits.source(path)
    if isinstance(source, Path):
        return Opened(source, table, dictionaries=dictionaries)
    return Opened(Path(path), table, source=source, dictionaries=dictionaries)
