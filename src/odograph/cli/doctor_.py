"""`odograph doctor`: whether a store and this installation are sound."""

from __future__ import annotations

import argparse
import platform
import sqlite3
from importlib import metadata
from typing import Any

from ..types import SCHEMA_VERSION, VERSION
from .common import add_json, existing_store, print_json
from .terminal import line, paint, size

HELP = "report damage in the store, and installed packages; exit status 1 if a line is damaged"
_PACKAGES = ("msgspec", "orjson", "tqdm", "pyarrow", "zstandard", "datasets", "openai", "anthropic")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with existing_store(args) as store:
        found = store.examine()
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
    for damage in facts["damages"]:
        colour, what = ("yellow", "torn") if damage["torn"] else ("red", "damaged")
        print(paint(f"{what}: {line(damage['file'])} at byte {damage['offset']}: {line(damage['reason'])}", colour))
    if not facts["damages"]:
        print(paint("no damage", "green"))
    return 1 if damaged else 0


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
