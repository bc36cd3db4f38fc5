"""`odograph doctor`: whether a store and this installation are sound."""

from __future__ import annotations

import argparse
import platform
import sqlite3
from importlib import metadata
from typing import Any

from ..clock import iso_time
from ..store.layout import TABLES
from ..types import SCHEMA_VERSION, VERSION
from .common import add_json, bytes_bar, existing_store, print_json
from .terminal import line, paint, size

HELP = "report damage in the store, and installed packages; exit status 1 if a line is damaged"
_PACKAGES = ("msgspec", "orjson", "tqdm", "pyarrow", "duckdb", "zstandard", "datasets", "openai", "anthropic")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repair",
        action="store_true",
        help="first repair a lost list of the sealed files, damaged files, and the catalog",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with existing_store(args) as store:
        repaired = store.repair() if args.repair else None
        found = store.examine(bytes_bar("reading"))
    if repaired is not None:
        found["repaired"] = repaired
    facts: dict[str, Any] = {
        **found,
        "odograph": VERSION,
        "schema_version": SCHEMA_VERSION,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: _version(name) for name in _PACKAGES},
    }
    damaged = [d for d in facts["damages"] if not d["torn"]]
    if args.json:
        print_json(facts)
        return 1 if damaged else 0
    print(f"odograph {VERSION} (schema {SCHEMA_VERSION}), Python {facts['python']}, SQLite {facts['sqlite']}")
    print("packages: " + ", ".join(f"{n} {v or '(not installed)'}" for n, v in facts["packages"].items()))
    journal = f"{size(facts['journal_bytes'])} in {len(facts['files'])} journal files"
    print(f"store: {line(str(facts['store']))}, {facts['trajectories']:,} trajectories, {journal}")
    writers = sum(f["alive"] for f in facts["files"])
    print(f"writers: {writers} at work; {facts['unterminated']:,} trajectories without an end whose writer is gone")
    catalog = "in memory (its file can not be used)" if facts["catalog_in_memory"] else "fine"
    print(f"catalog: {catalog}; disk: {size(facts['disk_free'])} free")
    _sealed(facts)
    for damage in facts["damages"]:
        colour, what = ("yellow", "torn") if damage["torn"] else ("red", "damaged")
        at = f" at byte {damage['offset']}" if damage["file"].endswith(".jsonl") else ""  # else the reason says it
        print(paint(f"{what}: {line(damage['file'])}{at}: {line(damage['reason'])}", colour))
    if not facts["damages"]:
        print(paint("no damage", "green"))
    return 1 if damaged else 0


def _sealed(facts: dict[str, Any]) -> None:
    """What is sealed, and what is not."""
    sealed, repaired = facts["sealed"], facts.get("repaired")
    if repaired is not None:
        left = f"; {repaired['left']} files belong to no complete seal" if repaired["left"] else ""
        left += (
            f"; {repaired['mended']} damaged files were taken out, with what can be read in new ones"
            if repaired["mended"]
            else ""
        )
        print(paint(f"repaired: {repaired['files']} files of {repaired['commits']} commits{left}", "green"))
    when = f", the last at {iso_time(sealed['last'])}" if sealed["last"] else ""
    what = f"{size(sealed['bytes'])} in {sealed['files']} files of {sealed['commits']} commits{when}"
    print(f"sealed: {what if sealed['files'] else 'nothing'}")
    if sealed["files"] and sealed["compared"] == "footers":
        print("compared: the footers of these files; each page is compared with its checksum when it is read")
    print(f"not sealed: {size(sealed['unsealed_bytes'])} of {sealed['unsealed_trajectories']:,} trajectories")
    tables = [path.split("/")[1] for path in sealed["orphans"]]
    for count, of in (
        (sum(name in TABLES for name in tables), "a seal that was stopped; the next seal takes or deletes these files"),
        (
            sum(name.startswith("world_") for name in tables),
            "a world's step that is under way or was stopped; a step a day later deletes what is left of these files",
        ),
    ):
        if count:
            print(paint(f"orphaned: {count} files of {of}", "yellow"))
    if sealed["pending"]:
        oldest = iso_time(min(sealed["pending"].values()))
        print(paint(f"under way: {len(sealed['pending'])} commits of machines that share the store, since {oldest}", "yellow"))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
