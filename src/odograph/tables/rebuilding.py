"""The list of the files of a lake in a folder, made anew from the footers of the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import StoreError
from .files import DataFile, Footer, data_file, footer_of
from .folder import FolderCommits


def rebuild(
    listed: FolderCommits, table_of: Callable[[Path], str | None], elsewhere: Callable[[Footer], bool] = lambda footer: True
) -> dict[str, int]:
    """Rebuilds the database from the footers of the files: each complete commit, in their order.

    `table_of` says which table a path belongs to. `elsewhere` says of a commit of which files are missing whether what it
    holds is there all the same, so that it was never made; else it was, and files were lost since: they stay in the list.
    The old database is kept beside, as `commits.sqlite.damaged`. Returns how many commits and live files were found, and how
    many files belong to commits that are not complete.
    """
    listed.close()
    for suffix in ("", "-wal", "-shm"):
        old = listed.root / f"commits.sqlite{suffix}"
        if old.exists():
            old.rename(old.with_name(old.name + ".damaged"))
    commits: dict[str, dict[str, Path]] = {}
    footers: dict[str, Footer] = {}
    unread: dict[str, Path] = {}
    left = 0
    for path in sorted(listed.root.rglob("[!.]*.parquet")):
        name = path.relative_to(listed.root).as_posix()
        try:
            footer = footer_of(path)
        except StoreError:
            unread[name] = path
            continue
        if footer is None or table_of(path) is None:
            left += 1
            continue
        commits.setdefault(footer.commit, {})[name] = path
        if footer.files:
            footers[footer.commit] = footer
    never = [""]
    while never:  # what a merge that was never made was to take out is not taken out
        replaced = {path for footer in footers.values() for path in footer.replaces}
        missing = {id: set(footer.files) - replaced - commits[id].keys() for id, footer in footers.items()}
        never = [id for id, footer in footers.items() if missing[id] and elsewhere(footer)]
        footers = {id: footer for id, footer in footers.items() if id not in never}
    made = files = 0
    for id in sorted(commits, key=lambda id: _order(id, footers[id].properties if id in footers else {})):
        there, said = commits[id], footers.get(id)
        if said is None:
            left += len(there)
            continue
        live = [data_file(table_of(path) or "", name, path) for name, path in there.items() if name not in replaced]
        for name in sorted(missing[id]):  # readers say that they are lost
            unread.pop(name, None)
            live.append(DataFile(table_of(listed.root / name) or "", name, 0, 0))
        listed.commit(id, live, properties=said.properties, keys=said.properties.get("keys"))
        made += 1
        files += len(live)
    return {"commits": made, "files": files, "left": left + len(unread.keys() - replaced)}


def _order(id: str, properties: dict[str, Any]) -> tuple[int, str]:
    """By the commit that a commit is based on, as a clock may jump; else by time: ids end in a UUIDv7."""
    base = properties.get("base")
    return base if type(base) is int else -1, id.rpartition("/")[2]
