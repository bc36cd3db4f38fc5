"""Compacting: small files of the lake become large ones, and the parts of a trajectory come together."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ..errors import StoreError
from ..tables.commits import Conflict
from ..tables.files import DamagedFile, DataFile
from ..tables.schema import arrow
from ..tables.values import rows_of
from . import committing
from .committing import Output
from .lake import Lake
from .layout import FACTS, RECORDS, TABLES, TRAJECTORIES
from .sealing import parts_of, recover, runs

_SMALL = 128 << 20  # files of `records` below it are merged
_MOST = 1 << 30  # bytes that one file is merged to at most
#: Nanoseconds after which nothing is kept of a journal file that is gone.
_FORGET = 86_400 * 10**9
_SOME = 256  # summaries that are Python objects at once


class Compaction(msgspec.Struct, frozen=True):
    """What a compaction did."""

    #: Files that were merged, and those that took their place.
    merged: int = 0
    made: int = 0
    #: Files that were taken out earlier, and were deleted now.
    deleted: int = 0


def compact(lake: Lake, grace: float) -> Compaction:
    """Merges small files, and the parts of a trajectory that was sealed in several. The caller holds the store's lock "seal".

    Files that were taken out are deleted once that is `grace` seconds ago: other processes may be reading them.
    """
    arrow()
    if not lake.exists:
        return Compaction()
    recover(lake)
    live = lake.commits.files(RECORDS.name)
    small = [one.file for one in live if one.file.bytes < _SMALL]
    chosen: list[DataFile] = []
    size = 0
    for file in small:
        if size + file.bytes <= _MOST:
            chosen.append(file)
            size += file.bytes
    merged = 0
    if len(chosen) > 1:
        output = Output(lake, size + sum(one.file.bytes for one in lake.commits.files(TRAJECTORIES.name)))
        try:
            replaced = _merge(lake, {file.path for file in chosen}, output)
        except Conflict as error:  # another machine merged or sealed meanwhile: the next compaction merges
            output.failed(error)
            replaced = []
        except DamagedFile as error:
            output.failed(error)
            raise lake.stopped(error) from None
        except BaseException as error:
            output.failed(error)
            raise
        merged = len(replaced)
    deleted = lake.commits.expire(time.time_ns() - int(grace * 1e9))
    return Compaction(merged, len(TABLES) if merged else 0, len(deleted))


def _merge(lake: Lake, paths: set[str], output: Output) -> list[str]:
    import pyarrow.compute as compute

    summaries = lake.files(TRAJECTORIES.name)
    damaged: list[dict[str, Any]] = []
    for path in sorted(paths):  # rows of no trajectory come first
        for batch in lake.batches(path, RECORDS):
            lost = batch.filter(compute.equal(batch.column("trajectory"), ""))
            damaged += rows_of(lost)
            if lost.num_rows < batch.num_rows:
                break
    output.rows("", damaged)
    for row in _newest(lake, summaries):
        parts = parts_of(row)
        moved = [part for part in parts if part.path in paths]
        if moved:
            output.rows(row["id"], lake.rows(moved))
        stay = [part for part in parts if part.path not in paths]
        output.summary({**row, **runs([*stay, *output.parts.pop(row["id"], ())])})
    output.finish()
    committing.stage("rows")
    facts = {one.file.path for one in lake.commits.files(FACTS.name)} & {f"{FACTS.name}/{p.split('/')[1]}" for p in paths}
    for path in sorted(facts):
        for batch in lake.batches(path, FACTS):
            output.facts(batch)
    replaced = [*sorted(paths), *sorted(facts), *summaries]
    begin = lake.journal_key
    before = lake.commits.keys(begin)
    keys = {name: _aged(name[len(begin) :], value, lake.root.parent / "journal") for name, value in before.items()}
    # each once: earlier compactions said them, too
    damages = [*dict.fromkeys(tuple(given) for one in lake.commits.commits() for given in one.properties.get("damages", []))]
    output.commit({"damages": damages} if damages else {}, keys, dict(before), replaced)
    return replaced


def _newest(lake: Lake, paths: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Of each trajectory the row that counts, in the order of ids. In memory is what the files hold of the ids around one: seals
    write in the order of ids, and few files overlap."""
    waiting = []
    for number, path in enumerate(paths):
        with lake.open(path, TRAJECTORIES) as file:
            bounds = file.bounds(0, "id") if file.groups else None
        waiting.append(("" if bounds is None else bounds[0], number, path))
    waiting.sort(reverse=True)
    heap: list[tuple[str, int, int, dict[str, Any], Iterator[dict[str, Any]]]] = []
    last: dict[str, Any] | None = None
    while waiting or heap:
        while waiting and (not heap or waiting[-1][0] <= heap[0][0]):
            _, number, path = waiting.pop()
            rows = _sorted(lake, path)
            if (row := next(rows, None)) is not None:
                heapq.heappush(heap, (row["id"], row["revision"], number, row, rows))
        if not heap:
            continue
        id, _, number, row, rows = heap[0]
        if last is not None and last["id"] != id:
            yield last
        last = row
        if (following := next(rows, None)) is not None:
            heapq.heapreplace(heap, (following["id"], following["revision"], number, following, rows))
        else:
            heapq.heappop(heap)
    if last is not None:
        yield last


def _sorted(lake: Lake, path: str) -> Iterator[dict[str, Any]]:
    before = ""
    for rows in lake.summaries_in([path]):
        for start in range(0, rows.num_rows, _SOME):
            for row in rows_of(rows.slice(start, _SOME)):
                if row["id"] < before:
                    raise StoreError(f"{path} can't be merged: its rows are not in the order of ids, as a seal writes rows")
                before = row["id"]
                yield row


def _aged(name: str, value: str, journal: Path) -> str | None:
    """What is kept of a journal file: "BYTES"; of a file that is gone "BYTES SINCE", and nothing a day after that. By then
    catalogs know it, and one that does not is made anew."""
    stop, _, since = value.partition(" ")
    if (journal / name).exists():
        return stop
    now = time.time_ns()
    if not since:
        return f"{stop} {now}"
    return value if now - int(since) < _FORGET else None
