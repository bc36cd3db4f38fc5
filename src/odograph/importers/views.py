"""What each model is sent of a conversation: a program may send a thought as it is to the model that had it, and to no other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

#: Messages that changes of the model may cost.
MOST = 500_000

#: Whose a message is, and what other models are sent in its place.
Otherwise = tuple[str, Any]


_M = TypeVar("_M", bound="Messages")


class Messages(list[Any]):
    """The messages of a conversation, and what each model is sent of them."""

    def __init__(self, messages: Iterable[Any] = ()) -> None:
        super().__init__(messages)
        #: The messages that not all models are sent as they are.
        self.otherwise: dict[int, Otherwise] = {}
        self._whose: set[str] = set()
        #: What each model is sent, where that is something else.
        self._views: dict[str | None, list[Any]] = {}
        #: The model that was asked last, and how many messages changes of it have cost: each is packed anew.
        self._asked: str | None = None
        self.cost = 0

    def add(self, message: Any, otherwise: Otherwise | None = None) -> None:
        if otherwise is not None:
            self.otherwise[len(self)] = otherwise
            self._whose.add(otherwise[0])
        self.append(message)

    def until(self: _M, stop: int) -> _M:
        """The first messages as a conversation of their own."""
        cut = type(self)(self[:stop])
        cut.otherwise = {n: other for n, other in self.otherwise.items() if n < stop}
        cut._whose, cut.cost = {whose for whose, _ in cut.otherwise.values()}, self.cost
        return cut

    def sent_to(self, model: str | None) -> list[Any]:
        """The list to say the beginning of: one for each model. Where the model changes all the time, this one for all models."""
        if not self._views and self._whose <= {model}:
            return self
        if model != self._asked:
            self._asked, self.cost = model, self.cost + len(self)
        if self.cost > MOST:
            return self
        view = self._views.setdefault(model, [])
        for n in range(len(view), len(self)):
            whose, other = self.otherwise.get(n, (model, None))
            view.append(self[n] if whose == model else other)
        return view
