"""A list that is the beginning of a longer one, without a copy of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar, final, overload


@final
class Prefix(Sequence[Any]):
    """The first items of a list that only grows: the history that a call was sent, without a copy of it per call.

    Whoever makes one promises that `base` is only appended to and that its items are never changed. `Packer` then looks at
    what is new alone; everything else may read it as the list that it stands for.
    """

    __slots__ = ("base", "length")

    def __init__(self, base: list[Any], length: int | None = None) -> None:
        self.base: list[Any] = base
        self.length: int = len(base) if length is None else length

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(self.length)
            return self.base[start:stop] if step == 1 else self.base[: self.length][index]
        return self.base[range(self.length)[index]]

    def __iter__(self) -> Iterator[Any]:
        return islice(self.base, self.length)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prefix | list) or len(self) != len(other):
            return False
        if isinstance(other, Prefix) and other.base is self.base:
            return True
        at, size = 0, 64  # in pieces that double: lists that differ early cost no copy
        while at < self.length:
            if self[at : at + size] != other[at : at + size]:
                return False
            at, size = at + size, 2 * size
        return True

    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self[:])
