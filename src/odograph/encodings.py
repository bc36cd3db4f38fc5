"""Content-encodings undone piece by piece.

A piece is at most about 1 MB, however far a few bytes expand: whoever takes the pieces can stop.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

_PIECE = 1 << 20
#: Bytes that zstd is given at once; its blocks expand to 128 KB each, from four bytes on.
_SLICE = 32

#: From the next bytes to the pieces that they decode to.
Decoder = Callable[[bytes], Iterator[bytes]]


def decoder(encoding: str, *, strict: bool = False) -> Decoder | None:
    """What undoes a content-encoding; None where nothing here knows it. Several encodings are undone from the last to the first.

    What is damaged decodes to what came before the damage; `strict`: it raises an error of its library.
    """
    names = [name for part in encoding.lower().split(",") if (name := part.strip()) not in ("", "identity")]
    steps: list[Decoder] = []
    for name in reversed(names):
        step = _one(name)
        if step is None:
            return None
        steps.append(step)

    def decode(data: bytes, depth: int = 0) -> Iterator[bytes]:
        if depth == len(steps):
            yield data
            return
        for piece in steps[depth](data):
            yield from decode(piece, depth + 1)

    return decode if strict else _lenient(decode)


def _one(name: str) -> Decoder | None:
    if name in ("gzip", "x-gzip"):
        return _Zlib(zlib.MAX_WBITS | 16)
    if name == "deflate":
        return _Zlib(None)
    try:
        if name == "br":
            return _brotli(import_module("brotli").Decompressor())
        if name == "zstd":
            return _zstd(import_module("zstandard").ZstdDecompressor().decompressobj(read_across_frames=True))
    except ImportError:  # both are of the extra `proxy`
        return None
    return None


class _Zlib:
    """Several members of gzip may follow each other. Deflate comes with the header of zlib or, from some servers, without."""

    def __init__(self, bits: int | None) -> None:
        self._bits = bits
        self._engine: Any = None

    def __call__(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._bits is None:
                self._bits = zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS
            if self._engine is None:
                self._engine = zlib.decompressobj(wbits=self._bits)
            yield self._engine.decompress(data, _PIECE)
            data = self._engine.unconsumed_tail
            if self._engine.eof:
                data, self._engine = self._engine.unused_data, None


def _brotli(engine: Any) -> Decoder:
    def decode(data: bytes) -> Iterator[bytes]:
        yield engine.process(data, output_buffer_limit=_PIECE)
        while not engine.can_accept_more_data():
            yield engine.process(b"", output_buffer_limit=_PIECE)

    return decode


def _zstd(engine: Any) -> Decoder:
    def decode(data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _SLICE):
            yield engine.decompress(data[start : start + _SLICE])

    return decode


def _lenient(decode: Decoder) -> Decoder:
    damaged = False

    def lenient(data: bytes) -> Iterator[bytes]:
        nonlocal damaged
        if damaged:
            return
        try:
            yield from (piece for piece in decode(data) if piece)
        except Exception:  # the libraries' own errors; a damaged body is data
            damaged = True

    return lenient
