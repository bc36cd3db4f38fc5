"""What two parts of a store are compared by: trajectories, labels or worlds, each by the room that knows how."""

from __future__ import annotations

from typing import Any, Protocol, cast

from ..errors import InvalidInput, did_you_mean
from ..statistics import comparison, said
from ..statistics.compared import Compared
from ..statistics.comparison import BY, PartsBy, compare_parts
from ..statistics.labelled import LABELS_BY, compare_labels
from ..store.backend import Place
from ..store.filters import FilterArgs, given

#: What narrows the labels down that are compared, by what they are compared by.
_NARROWS: dict[str, tuple[str, ...]] = {
    "rubric": ("technique", "judge"),
    "judge": ("technique", "rubric"),
    "technique": ("judge",),
    "world": ("technique", "namespace"),
}


class Source(comparison.Source, said.Source, Protocol):
    """What is compared: parts of a `Store`, or its labels."""


def compare(
    store: Source,
    place: Place,
    a: str,
    b: str,
    by: str,
    filters: FilterArgs,
    *,
    technique: str | None,
    rubric: str | None,
    judge: str | None,
    namespace: str,
    **more: Any,
) -> Compared:
    """`Store.compare`; `place`: where the store's worlds are."""
    known = (*BY, *LABELS_BY, "world")
    if by not in known:
        raise InvalidInput(f"nothing is compared by {by!r}; there are: {', '.join(known)}{did_you_mean(by, known)}")
    narrow: dict[str, Any] = {"technique": technique, "rubric": rubric, "judge": judge}
    for name, value in {**narrow, "namespace": None if namespace == "default" else namespace}.items():
        if value is not None and name not in _NARROWS.get(by, ()):
            takes = ", ".join(one for one, names in _NARROWS.items() if name in names)
            raise InvalidInput(f"{name}= goes with by={takes}, not with by={by!r}")
    if by in LABELS_BY:
        return compare_labels(store, a, b, by=by, **narrow, **more, **filters)
    if by == "world":
        from ..worlds.comparing import compare_worlds  # it needs an extra

        ids = {s.id for s in store.summaries(**filters)} if given(filters) else None
        return compare_worlds(place, a, b, namespace=namespace, technique=technique, ids=ids, **more)
    return compare_parts(store, a, b, by=cast(PartsBy, by), **more, **filters)
