"""The state of a working folder in git: its head, and all that differs from it. Changes nothing in the folder or repository."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

_MOST = 1 << 20  # bytes of a diff that are kept
_SECONDS = 30
#: Nothing that the repository's own configuration could run.
_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false")


def state(folder: Path, store: Path) -> dict[str, Any] | None:
    """`head`, `branch` and `diff` (of tracked and new files, ignored ones aside); None where the folder is in no repository.
    `store`: a folder that is left out of the diff, as the record of a run is none of its work."""
    if _git(folder, "rev-parse", "--is-inside-work-tree") is None:
        return None
    head = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    branch = _git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    diff = _diff(folder, head, store)
    found: dict[str, Any] = {"head": head, "branch": branch, "diff": diff}
    if diff is not None and len(diff) > _MOST:
        found |= {"diff": diff[:_MOST], "diff_size": len(diff)}
    return found


def _diff(folder: Path, head: str | None, store: Path) -> str | None:
    """Against an index and a store of objects of its own: the repository's stay as they are."""
    objects = _git(folder, "rev-parse", "--git-path", "objects")
    top = _git(folder, "rev-parse", "--show-toplevel")
    if objects is None or top is None:
        return None
    here = ["--", ":/"]
    all_but = [*here, f":(top,exclude,literal){store.relative_to(top)}"] if Path(top) in store.parents else here
    ignored = _git(folder, "check-ignore", "--quiet", str(store)) is not None  # `add` refuses to leave out what it ignores
    with tempfile.TemporaryDirectory(prefix="odograph-git-") as place:
        beside = {
            "GIT_INDEX_FILE": os.path.join(place, "index"),
            "GIT_OBJECT_DIRECTORY": place,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": os.path.abspath(os.path.join(folder, objects)),
        }
        if head is not None and _git(folder, "read-tree", head, **beside) is None:
            return None
        if _git(Path(top), "add", "--all", *(here if ignored else all_but), **beside) is None:
            return None
        base = head or _git(folder, "hash-object", "-t", "tree", "/dev/null")
        return _git(folder, "diff", "--cached", "--no-ext-diff", "--no-textconv", "--no-color", str(base), *all_but, **beside)


def _git(folder: Path, *arguments: str, **more: str) -> str | None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | more | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *_SAFE, *arguments],
            cwd=folder,
            env=env,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = done.stdout.decode("utf-8", "replace")
    return None if done.returncode else text.rstrip("\n") if "diff" not in arguments else text
