"""The folder of an export: written beside its place and moved there when it is whole. Knows no trajectory and no format."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from ..codec import loads
from ..errors import InvalidInput, StoreError
from .files import Chunk

MANIFEST = "manifest.json"
CARD = "README.md"
_HOLD = 64 << 20  # bytes of one trajectory's rows that are held in memory


@contextmanager
def drafted(place: Path) -> Iterator[Path]:
    """A new folder beside a place, which takes that place when nothing was raised, and is gone otherwise."""
    place.parent.mkdir(parents=True, exist_ok=True)
    around = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    draft = around / "draft"
    try:
        draft.mkdir()  # as open as the user's umask says; what is around it is the user's alone
        yield draft
        _move(draft, place)
    finally:
        shutil.rmtree(around, ignore_errors=True)


def check_free(place: Path, out: str | Path) -> None:
    """Refuses a place where something is that an export would replace, but an earlier export and nothing else."""
    if not place.exists():
        return
    foreign = f"{str(out)!r} is there already and is no export; name a folder that is new or empty"
    if not place.is_dir():
        raise InvalidInput(foreign)
    if not any(place.iterdir()):
        return
    try:
        manifest = loads((place / MANIFEST).read_bytes())
    except (OSError, InvalidInput):
        raise InvalidInput(foreign) from None
    listed = manifest.get("files") if isinstance(manifest, dict) and "odograph" in manifest else None
    if not isinstance(listed, list):
        raise InvalidInput(foreign)
    ours = {MANIFEST, CARD, *(f.get("path") for f in listed if isinstance(f, dict))}
    for path in place.rglob("*"):
        name = path.relative_to(place).as_posix()
        if not path.is_dir() and name not in ours:
            raise InvalidInput(f"{str(out)!r} is an export with other files in it: {name!r}; name a folder that is new or empty")


def _move(draft: Path, place: Path) -> None:
    """The finished folder to its place; what was there is gone only when the new one stands there."""
    if not place.exists():
        draft.rename(place)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    place.rename(old / "old")
    try:
        draft.rename(place)
    except BaseException:
        (old / "old").rename(place)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


class NoSpace(StoreError):
    """The rows of a large trajectory can't be put aside."""


class Held:
    """One trajectory's rows until the last of them is seen to be sound: in memory, and on disk where they are large."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._chunks: list[Chunk] = []
        self._size = 0
        self._aside: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._aside is not None:
            self._aside.close()

    def add(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        self._size += chunk.size
        if self._size > _HOLD:
            try:
                if self._aside is None:
                    self._aside = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # closed with this
                for held in self._chunks:
                    pickle.dump(held, self._aside, pickle.HIGHEST_PROTOCOL)
            except OSError as error:
                raise NoSpace(f"rows can't be put aside: {error.strerror or error}") from error
            self._chunks, self._size = [], 0

    def __iter__(self) -> Iterator[Chunk]:
        if self._aside is not None:
            self._aside.seek(0)
            with suppress(EOFError):
                while True:
                    yield pickle.load(self._aside)
        yield from self._chunks


def described_file(folder: Path, path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": digest}
