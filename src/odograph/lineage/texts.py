"""Text and tokens of one response: where each token stands in the text, and text as tokens. By any tokenizer that gives offsets.

Knows no trajectory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, cast

from ..errors import InvalidInput, MissingExtra

Offsets = list[tuple[int, int]]


class Tokenizer(Protocol):
    """What is needed of a tokenizer: `tokenizers.Tokenizer`, or a Hugging Face tokenizer that stands on one, is adapted."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without special tokens."""
        ...

    def decode(self, ids: list[int]) -> str:
        """The text of ids, special tokens left out."""
        ...

    def offsets(self, text: str) -> tuple[list[int], Offsets]:
        """The ids of a text, and [start, stop) of each in it, in characters."""
        ...

    @property
    def size(self) -> int:
        """How many ids there are."""
        ...


def tokenizer(given: Any) -> Tokenizer | None:
    """A tokenizer of an object, or of a file `tokenizer.json`. Raises InvalidInput, MissingExtra."""
    if given is None:
        return None
    if isinstance(given, (str, Path)):
        path = Path(given)
        path = path / "tokenizer.json" if path.is_dir() else path
        if not path.is_file():
            raise InvalidInput(f"no tokenizer at {str(given)!r}: the file or folder of a tokenizer.json was expected")
        try:
            import tokenizers
        except ImportError:
            raise MissingExtra("a tokenizer", "tokens") from None
        try:
            given = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:
            raise InvalidInput(f"{str(given)!r} can't be read as a tokenizer: {error}") from None
    backend = getattr(given, "backend_tokenizer", given)
    if type(backend).__module__.split(".")[0] == "tokenizers":
        return _Fast(backend)
    if all(hasattr(given, name) for name in ("encode", "decode", "offsets", "size")):
        return cast(Tokenizer, given)
    raise InvalidInput(
        f"{type(given).__name__} gives no offsets; a tokenizer of the package tokenizers was expected, or its file"
    )


class _Fast:
    """The package `tokenizers`."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def encode(self, text: str) -> list[int]:
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        return str(self._backend.decode(ids, skip_special_tokens=True))

    def offsets(self, text: str) -> tuple[list[int], Offsets]:
        found = self._backend.encode(text, add_special_tokens=False)
        return list(found.ids), list(found.offsets)

    @property
    def size(self) -> int:
        return int(self._backend.get_vocab_size(with_added_tokens=True))


_WINDOW = 12  # tokens that a character, or a space that belongs to the next word, may reach over


def offsets_of(ids: list[int], text: str, by: Tokenizer | None, pieces: list[str] | None = None) -> Offsets | None:
    """[start, stop) in `text` of each of `ids`; tokens that show no text of their own are empty. None where it can't be told.

    `pieces`: the text of each token, where the backend said so.
    """
    if pieces is not None and len(pieces) == len(ids) and "".join(pieces) == text:
        return _running(pieces)
    if by is None:
        return None
    encoded, offsets = by.offsets(text)
    if encoded == ids and (tiled := _tiled(offsets, len(text))) is not None:
        return tiled
    found: Offsets = []
    at = 0
    parts = 0  # tokens before this one that hold a part of a character: each stands where the whole of it stands
    for n in range(len(ids)):
        low = max(0, n - _WINDOW)
        before, now = by.decode(ids[low : n - parts]), by.decode(ids[low : n + 1])
        piece = now[len(before) :]
        if text.startswith(piece, at) and not (piece.endswith("\ufffd") and n + 1 < len(ids)):
            found[n - parts :] = [(at, at + len(piece))] * (parts + 1)
            parts, at = 0, at + len(piece)
        else:
            found.append((at, at))
            parts = min(parts + 1, _WINDOW)
    return found if at == len(text) else offsets if encoded == ids else None


def _tiled(offsets: Offsets, size: int) -> Offsets | None:
    """Offsets of which tokens that have parts of one character all have the whole of what these tokens have; None where some
    text is in no token, as with tokenizers that leave the spaces out of their offsets."""
    out: Offsets = []
    at = first = 0  # the first token of those that hang together
    for n, (start, stop) in enumerate(offsets):
        if start > at:
            return None
        if start == at:
            first = n
        at = max(at, stop)
        begin = out[first][0] if first < n else start
        out[first:] = [(begin, at)] * (n + 1 - first)
    return out if at == size else None


def _running(pieces: list[str]) -> Offsets:
    out: Offsets = []
    at = 0
    for piece in pieces:
        out.append((at, at + len(piece)))
        at += len(piece)
    return out
