"""Whether the folder of an export can still be read as its manifest says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..codec import loads
from ..errors import InvalidInput
from .define import Check
from .report import Finding

UNREADABLE = Check("unreadable_export", "error", "a file of an export that is gone or changed")


def validate_export(folder: Path) -> Iterator[Finding]:
    """Files that are gone, cut short or changed since, and what the manifest says of tasks in two splits. Never raises."""
    try:
        manifest = loads((folder / "manifest.json").read_bytes())
    except (OSError, InvalidInput) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        yield _unreadable("manifest.json", f"the manifest can't be read: {why}")
        return
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, list):
        yield _unreadable("manifest.json", "the manifest lists no files")
        return
    for listed in files:
        name = listed.get("path") if isinstance(listed, dict) else None
        if not isinstance(name, str):
            yield _unreadable("manifest.json", "the manifest lists a file without a path")
            continue
        if not (folder / name).resolve().is_relative_to(folder.resolve()):  # an upload would give it away
            yield _unreadable("manifest.json", f"the manifest lists a file outside of the folder: {name[:200]!r}")
            continue
        why = _changed(folder / name, listed)
        if why is not None:
            yield _unreadable(name, why)
    for pair in manifest.get("contamination") or []:
        if isinstance(pair, dict):
            yield Finding("contamination", "error", "manifest.json", str(pair.get("message")), None)


def _unreadable(path: str, message: str) -> Finding:
    return Finding(UNREADABLE.code, UNREADABLE.severity, path, message, None)


def _changed(path: Path, listed: dict[str, Any]) -> str | None:
    try:
        if not path.is_file():
            return "there is no such file"
        size = path.stat().st_size
        if size != listed.get("bytes"):
            return f"{size} bytes, where the manifest says {listed.get('bytes')}"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"it can't be read: {error.strerror}"
    return None if digest == listed.get("sha256") else "its content is not what was written"
