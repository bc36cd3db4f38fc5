"""Which trajectories are attempts of one task: the one rule of all figures."""

from __future__ import annotations

from ..codec import encode
from ..store.summary import Summary


class Tasks:
    """Numbers for tasks: trajectories of one group are attempts of one task; without a group, those of one task are."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def of(self, s: Summary) -> int:
        """The number of a trajectory's task; negative for one that is on its own."""
        about = ("group", s.group) if s.group is not None else ("task", s.task if s.task_id is None else s.task_id)
        if about[1] is None:
            return -1
        key = hash(about if isinstance(about[1], str) else ("task", encode(about[1])))
        return self._known.setdefault(key, len(self._known))
