"""A list that is the beginning of a longer one, without a copy of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from operator import is_
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


def shared_prefix(a: list[Any] | Prefix, b: list[Any] | Prefix, low: int = 0) -> int:
    """The length of the longest common prefix, at least `low`. Slices are compared in C, so long equal parts cost little; two
    beginnings of one list cost nothing."""
    if type(a) is Prefix and type(b) is Prefix and a.base is b.base:
        return min(len(a), len(b))
    return low + equal_run(a, low, b, low)


def equal_run(a: list[Any] | Prefix, at: int, b: list[Any] | Prefix, there: int) -> int:
    """The number of equal items of two lists, from position `at` in the first and `there` in the second on."""
    most = min(len(a) - at, len(b) - there)
    if most <= 0 or a[at] != b[there]:
        return 0
    if a[at : at + most] == b[there : there + most]:
        return most
    low, high = 0, most  # so many are equal, so many are not
    while high - low > 1:
        middle = (low + high) // 2
        if a[at + low : at + middle] == b[there + low : there + middle]:
            low = middle
        else:
            high = middle
    return low


def begins(a: list[Any] | Prefix, b: list[Any] | Prefix) -> bool:
    """Whether a list begins with all of another one."""
    return len(b) <= len(a) and shared_prefix(a, b) == len(b)


def grown(before: list[Any] | Prefix, more: list[Any]) -> Prefix:
    """A list with more behind it: in the same list, where nothing stands behind it there yet, else in a list of its own."""
    if type(before) is Prefix and len(before.base) == before.length:
        before.base.extend(more)
        return Prefix(before.base)
    return Prefix([*before, *more])


def same_objects(a: list[Any] | Prefix, b: list[Any] | Prefix) -> int:
    """The number of identical objects (not only equal ones) at the beginning of two lists."""
    if type(a) is Prefix and type(b) is Prefix and a.base is b.base:
        return min(len(a), len(b))
    if all(map(is_, a, b)):
        return min(len(a), len(b))
    return next(i for i, same in enumerate(map(is_, a, b)) if not same)
