"""A view: what a model's context is made of, token by token, run-length encoded; and how a prompt stands to the view before it.

Knows token ids and where they came from; no trajectory, no text, no tokenizer.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Any, Literal

import msgspec

from ..prefix import Prefix, begins, grown, shared_prefix

#: Token ids that are read and not changed.
Ids = list[int] | Prefix
Source = Literal["prompt", "template", "tool", "sampled", "inserted", "retokenized", "summary"]
#: Of a sampled token: whether what stands left of it is what it was sampled under.
Standing = Literal["exact", "stale", "unknown"]


class Segment(msgspec.Struct):
    """A run of tokens of one origin. Sampled ones: tokens [start, start + len(ids)) of a choice of a call."""

    source: Source
    ids: list[int]
    call: str | None = None
    choice: int = 0
    start: int = 0
    #: The response that it stands in: what an edit put there counts too.
    response: tuple[str, int] | None = None
    #: The edit that put it there, or moved it.
    edit: str | None = None
    #: Known from how the view came to be; None: to be looked at.
    exact: bool | None = None

    def part(self, start: int, stop: int) -> Segment:
        """Some of its tokens."""
        if start == 0 and stop == len(self.ids):
            return self
        return msgspec.structs.replace(self, ids=self.ids[start:stop], start=self.start + start)


class View:
    """Segments, and all their ids in one list."""

    __slots__ = ("ids", "segments")

    def __init__(self, segments: Iterable[Segment] = ()) -> None:
        self.segments: list[Segment] | Prefix = []
        self.ids: Ids = []
        for segment in segments:
            self.add(segment)

    def __repr__(self) -> str:
        return f"<View of {len(self.ids)} tokens in {len(self.segments)} segments>"

    def add(self, segment: Segment) -> None:
        """Puts a segment at the end; neighbours of one origin become one."""
        if isinstance(self.ids, Prefix):
            self.ids = self.ids[:]
        if isinstance(self.segments, Prefix):
            self.segments = self.segments[:]
        self.ids.extend(segment.ids)
        _append(self.segments, segment)

    @classmethod
    def of(cls, segments: list[Segment], ids: Ids | None = None) -> View:
        """Of segments; `ids`: all of theirs, where they are at hand (they are not copied)."""
        return cls().then(segments, ids)

    def then(self, more: Iterable[Segment], ids: Ids | None = None) -> View:
        """This view with more segments behind it; neighbours of one origin become one. `ids`: all of the new view, where they are
        at hand. Costs what is more, where nothing went on with this view before."""
        head: list[Segment] | Prefix = self.segments
        out: list[Segment] = []
        for segment in more:
            if not out and segment.ids and head and _joins(head[-1], segment):
                out.append(head[-1])
                head = Prefix(head.base, len(head) - 1) if isinstance(head, Prefix) else head[:-1]
            _append(out, segment)
        new = View()
        size = sum(len(s.ids) for s in self.segments[len(head) :])  # of what was joined
        new.ids = ids if ids is not None else [*self.ids[: len(self.ids) - size], *(i for s in out for i in s.ids)]
        new.segments = grown(head, out)
        return new

    def until(self, position: int) -> tuple[View, int]:
        """The segments that end at a position or before it, and where they end. Costs what stands behind them."""
        n, at = len(self.segments), len(self.ids)
        while n and at > position:
            n -= 1
            at -= len(self.segments[n].ids)
        new = View()
        new.segments = Prefix(self.segments.base, n) if isinstance(self.segments, Prefix) else Prefix(self.segments[:n])
        return new, at

    def source_at(self, position: int) -> Source | None:
        """Where one of its tokens came from; None behind the last."""
        for segment in self.segments:
            if position < len(segment.ids):
                return segment.source
            position -= len(segment.ids)
        return None

    def copy(self) -> View:
        new = View()
        new.segments, new.ids = list(self.segments), list(self.ids)
        return new

    def sampled(self, of: set[tuple[str, int]] | None = None) -> dict[tuple[str, int], set[int]]:
        """By (call, choice), of all answers or of some: which tokens of the answer stand here, by their number."""
        found: dict[tuple[str, int], set[int]] = {}
        for s in self.segments:
            if s.source == "sampled" and s.call is not None and (of is None or (s.call, s.choice) in of):
                found.setdefault((s.call, s.choice), set()).update(range(s.start, s.start + len(s.ids)))
        return found


def _append(segments: list[Segment], segment: Segment) -> None:
    if not segment.ids:
        return
    if segments and _joins(segments[-1], segment):
        segments[-1] = msgspec.structs.replace(segments[-1], ids=segments[-1].ids + segment.ids)
    else:
        segments.append(segment)


def _joins(a: Segment, b: Segment) -> bool:
    if a.source != b.source or (a.response, a.edit, a.exact) != (b.response, b.edit, b.exact):
        return False
    if a.source == "sampled":
        return (a.call, a.choice) == (b.call, b.choice) and b.start == a.start + len(a.ids)
    return True


# --- how a prompt stands to the view before it ----------------------------------------------------------------------------


class Aligned(msgspec.Struct):
    """What a prompt kept of the view before it; how many tokens of that are gone, and how many were put in between."""

    #: Tokens at the beginning that both share.
    shared: int
    deleted: int
    inserted: int
    #: (i, j, n): n tokens from i on of the view stand from j on in the prompt.
    runs: list[tuple[int, int, int]]

    def view(self, before: View, prompt: Ids, source: Source, new: Source) -> View:
        """The prompt as a view. Tokens put in between are of `source`, those after the last that was kept of `new`."""
        # what both share stands as it stood, but for its last segment, which may be cut or go on
        head, start = before.until(self.shared)
        if head.segments:
            head, start = before.until(start - 1)
        out: list[Segment] = []
        cursor = start
        pieces = _Pieces(before, len(head.segments), start)
        for i, j, count in self.runs:
            i, j, count = max(i, start), max(j, start), i + count - max(i, start)
            parts = list(pieces.between(i, i + count))
            if j > cursor:
                last = out[-1].response if out else None
                within = last if last is not None and last == parts[0].response else None
                _append(out, Segment(source, prompt[cursor:j], response=within))
            for segment in parts:
                _append(out, segment if j + count <= self.shared else msgspec.structs.replace(segment, exact=None))
            cursor = j + count
        _append(out, Segment(new, prompt[cursor:]))
        return head.then(out, prompt)


def extends(view: View, prompt: Ids) -> bool:
    """Whether a prompt begins with all of a view."""
    return begins(prompt, view.ids)


def align(view: View, prompt: Ids) -> Aligned:
    """A longest ordered part of a view that a prompt kept."""
    shared = shared_prefix(view.ids, prompt)
    runs = [(0, 0, shared)] if shared else []
    runs += [(i + shared, j + shared, n) for i, j, n in matches(view.ids[shared:], prompt[shared:])]
    kept = sum(n for _, _, n in runs)
    stop = runs[-1][1] + runs[-1][2] if runs else 0
    return Aligned(shared, len(view.ids) - kept, stop - kept, runs)


class _Pieces:
    """Parts of a view by position."""

    def __init__(self, view: View, first: int, at: int) -> None:
        """From the segment of a number on, which starts at a position."""
        self._segments = view.segments[first:]
        self._starts: list[int] = []
        for segment in self._segments:
            self._starts.append(at)
            at += len(segment.ids)

    def between(self, start: int, stop: int) -> Iterable[Segment]:
        n = max(0, bisect_left(self._starts, start + 1) - 1)
        while n < len(self._segments) and self._starts[n] < stop:
            begin, segment = self._starts[n], self._segments[n]
            yield segment.part(max(0, start - begin), min(len(segment.ids), stop - begin))
            n += 1


_GRAMS = (16, 4, 1)
_SMALL = 1 << 18  # pairs of tokens that are compared one by one


def matches(a: Ids, b: Ids) -> list[tuple[int, int, int]]:
    """(i, j, n): runs a[i:i+n] == b[j:j+n], in order in both, that cover a long common subsequence.

    Patience: what occurs once in both is an anchor; between anchors again with shorter pieces. Near linear where the two are
    mostly the same, whatever was taken out.
    """
    found: list[tuple[int, int, int]] = []
    _match(a, 0, len(a), b, 0, len(b), 0, found)
    out: list[tuple[int, int, int]] = []
    for i, j, n in found:
        if out and out[-1][0] + out[-1][2] == i and out[-1][1] + out[-1][2] == j:
            out[-1] = (out[-1][0], out[-1][1], out[-1][2] + n)
        else:
            out.append((i, j, n))
    return out


def _match(a: Ids, a0: int, a1: int, b: Ids, b0: int, b1: int, level: int, out: list[tuple[int, int, int]]) -> None:
    start = shared_prefix(a[a0:a1], b[b0:b1])
    if start:
        out.append((a0, b0, start))
        a0, b0 = a0 + start, b0 + start
    end = shared_prefix(a[a0:a1][::-1], b[b0:b1][::-1])
    a1, b1 = a1 - end, b1 - end
    if a0 < a1 and b0 < b1:
        if (a1 - a0) * (b1 - b0) <= _SMALL:
            for i, j, n in SequenceMatcher(None, a[a0:a1], b[b0:b1], autojunk=False).get_matching_blocks():
                if n:
                    out.append((a0 + i, b0 + j, n))
        elif (tail := _tail(a, a0, a1, b, b0, b1)) is not None:
            i, j, n = tail
            _match(a, a0, i, b, b0, j, level, out)
            out.append((i, j, n))
        elif level < len(_GRAMS):
            _by_anchors(a, a0, a1, b, b0, b1, level, out)
    if end:
        out.append((a1, b1, end))


def _tail(a: Ids, a0: int, a1: int, b: Ids, b0: int, b1: int) -> tuple[int, int, int] | None:
    """(i, j, n) where the end of `a` stands in `b` with most of `a` before it: something was changed near the beginning, and more
    was said, as with a window that slides."""
    size = _GRAMS[0]
    if a1 - a0 < size or b1 - b0 < size:
        return None
    raw, gram = _bytes(b, b0, b1), _bytes(a, a1 - size, a1)
    at = raw.rfind(gram)
    if at < 0:
        return None
    stop = b0 + at // 8 + size
    n = shared_prefix(a[a0:a1][::-1], b[b0:stop][::-1])
    return (a1 - n, stop - n, n) if 2 * n >= a1 - a0 else None


def _bytes(ids: Ids, start: int, stop: int) -> bytes:
    try:
        return array("q", ids[start:stop]).tobytes()
    except OverflowError:  # ids that are none
        return array("q", map(hash, ids[start:stop])).tobytes()


def _by_anchors(a: Ids, a0: int, a1: int, b: Ids, b0: int, b1: int, level: int, out: list[tuple[int, int, int]]) -> None:
    size = _GRAMS[level]
    in_a, in_b = _once(a, a0, a1, size), _once(b, b0, b1, size)
    anchors = _increasing([(i, in_b[gram]) for gram, i in in_a.items() if gram in in_b])
    i0, j0 = a0, b0
    for i, j in anchors:
        if i < i0 or j < j0:  # inside of what an anchor before has grown over
            continue
        _match(a, i0, i, b, j0, j, level + 1, out)  # what is equal just before the anchor is its shared end
        n = _run(a, i, a1, b, j, b1)
        out.append((i, j, n))
        i0, j0 = i + n, j + n
    _match(a, i0, a1, b, j0, b1, level + 1, out)


def _run(a: Ids, i: int, a1: int, b: Ids, j: int, b1: int) -> int:
    """How many ids are equal from an anchor on, in pieces that double: a short run costs no copy of all that follows."""
    n, size = 0, 64
    while equal := shared_prefix(a[i + n : min(a1, i + n + size)], b[j + n : min(b1, j + n + size)]):
        n += equal
        if equal < size:
            break
        size *= 2
    return n


def _once(ids: Ids, start: int, stop: int, size: int) -> dict[Any, int]:
    """Pieces of `size` ids that occur once, and where."""
    raw = _bytes(ids, start, stop)
    width = 8 * size
    seen: dict[Any, int] = {}
    for i in range(stop - start - size + 1):
        piece = raw[8 * i : 8 * i + width]
        seen[piece] = -1 if piece in seen else start + i
    return {piece: i for piece, i in seen.items() if i >= 0}


def _increasing(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Of pairs in the order of their first numbers, a longest subsequence whose second ones increase, too."""
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for n, (_, j) in enumerate(pairs):
        at = bisect_left(tails, j)
        before.append(ends[at - 1] if at else -1)
        if at == len(tails):
            tails.append(j)
            ends.append(n)
        else:
            tails[at], ends[at] = j, n
    chain: list[tuple[int, int]] = []
    n = ends[-1] if ends else -1
    while n >= 0:
        chain.append(pairs[n])
        n = before[n]
    return chain[::-1]
