"""Publishing: the sealed tier of a folder goes to the tables that machines share, once, commit by commit.

The files go as they are, under their own names. Only where a machine sealed more of a trajectory than the folder knows, the
trajectories of that commit go by their records, of which the shared store takes those that it does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from ..codec import new_id
from ..errors import InvalidInput
from ..tables.commits import Commit, Conflict
from ..tables.files import DataFile, footer_of, opened
from ..tables.folder import FolderCommits
from ..tables.iceberg import IcebergCommits
from ..trajectory import Trajectory
from .committing import unchanged
from .lake import Lake
from .layout import TABLES, TRAJECTORIES
from .reader import Reader

_CONFLICTS = 10  # after so many a publication gives up


class Publication(msgspec.Struct, frozen=True):
    """What a publication did."""

    #: Commits of the folder that are in the shared tables now, and their files and bytes.
    commits: int = 0
    files: int = 0
    bytes: int = 0
    #: Trajectories that went by their records, as other machines had sealed more of them.
    merged: int = 0
    #: Commits that an earlier publication had brought.
    before: int = 0
    #: Worlds that are in the shared tables since, or went on there; and by name those that did not, and why.
    worlds: int = 0
    left: dict[str, str] = {}


def publish(
    source: Reader, target: Reader, add: Callable[[Iterable[Trajectory]], None], progress: Callable[[int, int], None] | None
) -> Publication:
    """Brings what is sealed in a folder to shared tables. The caller holds the folder's lock "seal", so no file is merged away.

    `add` takes over trajectories by their records. `progress(done, total)` counts bytes. Raises InvalidInput, MissingExtra,
    StoreError.
    """
    lake, team = source.lake, target.lake
    if not isinstance(lake.commits, FolderCommits) or not isinstance(team.commits, IcebergCommits):
        raise InvalidInput("publish() copies a store in a folder to tables that machines share, such as 's3://bucket/runs'")
    if not lake.exists:
        return Publication()
    source.catalog.look()  # at what was sealed just now
    team.commits.prepare()
    key = f"published:{_name(lake.root)}"
    last = team.commits.key(key)
    known = lake.commits.find(last) if last is not None else None
    found: dict[int, list[DataFile]] = {}
    for table in TABLES:
        for live in lake.commits.files(table):
            found.setdefault(live.added, []).append(live.file)
    commits = [one for one in lake.commits.commits() if one.seq in found]
    todo = [one for one in commits if known is None or one.seq > known.seq]
    total = sum(file.bytes for one in todo for file in found[one.seq])
    done = files = merged = 0
    for one in todo:
        ids = _one(lake, team, team.commits, one, found[one.seq], key)
        if ids:
            add(source.read(ids))
            team.commits.commit(new_id(), keys={key: one.id}, expect={key: team.commits.key(key)})
        merged += len(ids)
        done += sum(file.bytes for file in found[one.seq])
        files += len(found[one.seq])
        if progress is not None:
            progress(done, total)
    return Publication(len(todo), files, done, merged, len(commits) - len(todo))


def _one(lake: Lake, team: Lake, shared: IcebergCommits, commit: Commit, files: list[DataFile], key: str) -> list[str]:
    """Publishes a commit of the folder by its files. Where that would lose what other machines sealed, gives its trajectories."""
    own = [file for file in files if file.table == TRAJECTORIES.name]
    rows = {row["id"]: row["files"] for file in own for row in _rows(lake, file.path)}
    replaced = {path for file in own for path in _replaced(lake.root / file.path)}
    properties = {name: value for name, value in commit.properties.items() if name not in ("keys", "expect")}
    conflicts = 0
    while True:
        base = shared.last(TRAJECTORIES.name)
        there = team.newest(set(rows)).select(["id", "files"]).to_pylist()
        if any(not replaced.union(rows[row["id"]]).issuperset(row["files"]) for row in there):
            return [*rows]
        live = {one.file.path for table in TABLES for one in shared.files(table)}
        try:
            shared.commit(
                commit.id,
                files,
                sorted(replaced & live),
                properties=properties,
                keys={key: commit.id},
                expect={key: shared.key(key)},
                check=unchanged(team, base, (), lambda: set(rows)),
                root=lake.root,
            )
            return []
        except Conflict:  # another machine sealed more of one of them
            conflicts += 1
            if conflicts == _CONFLICTS:
                raise


def _rows(lake: Lake, path: str) -> list[dict[str, Any]]:
    return [row for batch in lake.batches(path, TRAJECTORIES, ["id", "files"]) for row in batch.to_pylist()]


def _replaced(path: Path) -> tuple[str, ...]:
    footer = footer_of(path)
    return footer.replaces if footer is not None else ()


def _name(root: Path) -> str:
    """What tells this folder's publications from those of others; it stays with the folder."""
    path = root / "publisher"
    if not path.exists():
        with opened(root, path) as file:
            file.write(new_id().encode())
    return path.read_text().strip()
