"""The queues in which people label by one rubric in the browser, one for each annotator. What comes next and what is written:
`worlds.people`."""

from __future__ import annotations

import threading
from typing import Any

from ..api import Store
from ..errors import InvalidInput
from ..store.filters import FilterArgs
from ..worlds.people import Item, Queue
from ..worlds.rubrics import Rubric

_MOST = 1000  # annotators that are remembered


class Labelling:
    """`Labelling(store, rubric).look("ann")`, then `act({"annotator": "ann", "do": "label", ...})`, and so on."""

    def __init__(
        self, store: Store, rubric: Rubric, *, sample: int | None = None, seed: int | None = None, base: FilterArgs | None = None
    ) -> None:
        self.rubric = rubric
        self._store = store
        self._which: dict[str, Any] = {"sample": sample, "seed": seed, **(base or {})}
        self._queues: dict[str, Queue] = {}
        self._lock = threading.Lock()

    def look(self, annotator: str) -> dict[str, Any]:
        """What an annotator labels next, and by what. It has no label, no reward and no other annotator's work."""
        with self._lock:
            return self._seen(self._queue(annotator))

    def act(self, given: Any) -> dict[str, Any]:
        """Does what an annotator chose, and returns what comes next. Raises InvalidInput.

        `do` is "label" (`value`, `score`, `rationale`), "find" (a part: these and `turn`, `quote`), "finish" (no more parts),
        "skip" or "undo". `trajectory` is the one that the page shows.
        """
        if not isinstance(given, dict) or not isinstance(given.get("annotator"), str):
            raise InvalidInput('{"annotator": NAME, "do": "label", ...} was expected')
        with self._lock:
            queue = self._queue(given["annotator"])
            do = given.get("do")
            if do == "undo":
                if not queue.undo():
                    raise InvalidInput("there is no label of this sitting to take back")
                return self._seen(queue)
            item = queue.next()
            if item is None or item.trajectory != given.get("trajectory"):
                raise InvalidInput(
                    "this session is not the next one any more: another page of yours went on; load the page again"
                )
            if do == "label":
                queue.label(item, *_label(given), rationale=_text(given, "rationale"))
            elif do == "find":
                turn = given.get("turn")
                if type(turn) is not int:
                    raise InvalidInput(f"turn is a whole number, not {turn!r}")
                queue.find(item, turn, *_label(given), quote=_text(given, "quote") or "", rationale=_text(given, "rationale"))
            elif do == "finish":
                queue.finish(item)
            elif do == "skip":
                queue.skip(item)
            else:
                raise InvalidInput(f"do is label, find, finish, skip or undo, not {do!r}")
            return self._seen(queue)

    def _queue(self, annotator: str) -> Queue:
        name = annotator.strip()
        found = self._queues.get(name)
        if found is None:
            if len(self._queues) >= _MOST:
                raise InvalidInput(f"{_MOST:,} annotators are the most")
            found = self._queues[name] = Queue(self._store, self.rubric, name, **self._which)
        return found

    def _seen(self, queue: Queue) -> dict[str, Any]:
        item, form = queue.next(), self.rubric.form
        return {
            "technique": self.rubric.technique,
            "text": self.rubric.text,
            "on": form.on,
            "values": list(form.values),
            "score": [form.low, form.high] if form.asks_score else None,
            "done": queue.done,
            "of": len(queue.ids),
            "item": None if item is None else _item(item),
        }


def _item(item: Item) -> dict[str, Any]:
    turns = []
    for number, turn in enumerate(item.turns, 1):
        texts = [turn.content, turn.tool_input, turn.tool_output, f"error: {turn.error}" if turn.error else None]
        about = {"turn": number, "role": turn.role, "tool": turn.tool_name, "step": turn.metadata.get("step")}
        turns.append(about | {"texts": [text for text in texts if text]})
    outcome = item.session.outcome
    return {"trajectory": item.trajectory, "task": item.task, "number": item.number, "turns": turns, "outcome": outcome or None}


def _label(given: dict[str, Any]) -> tuple[str, float | None]:
    score = given.get("score")
    if score is not None and type(score) not in (int, float):
        raise InvalidInput(f"the score is a number, not {score!r}")
    return _text(given, "value") or "", score


def _text(given: dict[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"{name} is a text, not {value!r:.80}")
    return value or None
