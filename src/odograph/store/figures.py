"""What statistics read of trajectories: columns of values out of the catalog, a page at a time: quicker than summaries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from operator import gt, is_not
from typing import Any

import msgspec

from .rows import UNKNOWN_TIME, unpacked
from .summary import Used

PAGE = 500
ORDER = "began, first_apart, id"
#: A column of the catalog for each thing that figures are told apart by.
_BY = {
    "group": "iif(replay, null, grp_number)",  # a replay is in no group
    "agent": "agent_number",
    "model": "coalesce(model_number, first_model_number)",
    "policy_version": "policy_version_number",
}
_COLUMNS = (
    "began, first_apart, id, case when grp_number is not null then 2*grp_number when task_id is not null then task_id"
    " else 2*task_number+1 end, status_number, iif(status_number is null and source is null, writer_number, null), steps,"
    " coalesce(stated_calls, llm_calls), actions, coalesce(stated_prompt, prompt_tokens),"
    " coalesce(stated_completion, completion_tokens), reward, tags_number, uses_number, alone, rewards is not null"
)
#: Whether the journal says more of what happened, and of rewards, than the summary.
_LATE = (
    "iif((select exists (select 1 from rewards) or exists (select 1 from uses)),"  # asked once
    " exists (select 1 from rewards where trajectory=t.id) or exists (select 1 from uses where trajectory=t.id), 0)"
)


class Figures(msgspec.Struct):
    """Some trajectories, oldest first: each list has a value of each of them."""

    #: What attempts of one task have in common; None where a trajectory is on its own.
    task: list[int | str | None]
    status: list[str]
    steps: list[int]
    llm_calls: list[int]
    actions: list[int]
    prompt_tokens: list[int | None]
    completion_tokens: list[int | None]
    reward: list[float | None]
    #: Nanoseconds.
    started: list[int | None]
    tags: list[Sequence[str]]
    #: (kind, name) of what was done, read and asked; lists that are the same are one object.
    uses: list[Sequence[tuple[str, str]]]
    #: Under each name of a reward: the places of the trajectories that have it, and the value that counts in each.
    components: dict[str, tuple[list[int], list[float | None]]]
    #: What `by` asked for.
    key: list[Any]


Ask = Callable[[str, tuple[Any, ...]], list[Any]]


class Reading:
    """Reads figures through a catalog: `ask` answers SQL, `used` tells what happened where one look does not."""

    def __init__(self, ask: Ask, used: Callable[[list[str]], dict[str, Used]], find: Callable[[str], int]) -> None:
        self._ask = ask
        self._used = used
        self._find = find
        self._texts: dict[int, Any] = {}
        self._uses: dict[int, list[tuple[str, str]]] = {}

    def pages(
        self,
        by: str | None,
        pieces: Iterable[tuple[str, Sequence[Any]]],
        last: int,
        limit: int | None,
        alive: Callable[[], set[str]],
    ) -> Iterator[Figures]:
        """The trajectories that the clauses choose, each with its values, a page at a time."""
        left = limit
        for where, values in pieces:
            after, page = "", ()
            while left is None or left > 0:
                size = PAGE if left is None else min(PAGE, left)
                rows = self._ask(
                    f"select {_COLUMNS}, {_LATE}, {_BY.get(by or '', 'null')} from trajectories as t"
                    f" where {where} and first<=?{after} order by {ORDER} limit ?",
                    (*values, last, *page, size),
                )
                if rows:
                    yield self._figures(rows, by, alive)
                left = None if left is None else left - len(rows)
                if len(rows) < size:
                    break
                after, page = f" and ({ORDER})>(?, ?, ?)", rows[-1][:3]

    def _figures(self, rows: list[Any], by: str | None, alive: Callable[[], set[str]]) -> Figures:
        columns = [list(column) for column in zip(*rows, strict=True)]
        began, _, ids, task, status, writer, steps, calls, actions, prompt, completion, reward = columns[:12]
        tags, uses, alone, rewarded, late, key = columns[12:]
        status = self._each(status, self._text)
        if None in status:
            running = alive()
            status = [
                one if one is not None else "running" if self._text(who) in running else "unterminated"
                for one, who in zip(status, writer, strict=True)
            ]
        happened = self._each(uses, self._happened)
        found: dict[int, Used] = {}
        if any(late) or any(map(gt, rewarded, map(is_not, alone, repeat(None)))):
            whole = [n for n, more in enumerate(late) if more or (rewarded[n] and alone[n] is None)]
            used = self._used([unpacked(ids[n]) for n in whole])
            for n in whole:
                found[n] = used.get(unpacked(ids[n]), Used())
                happened[n] = found[n].uses
        if by in _BY:
            key = self._each(key, self._text)
            key = [None if one is None else msgspec.json.decode(one) for one in key] if by == "policy_version" else key
        return Figures(
            task=self._each(task, self._task) if str in set(map(type, task)) else task,
            status=status,
            steps=steps,
            llm_calls=calls,
            actions=actions,
            prompt_tokens=prompt,
            completion_tokens=completion,
            reward=reward,
            started=began if began[0] != UNKNOWN_TIME else [None if one == UNKNOWN_TIME else one for one in began],
            tags=self._each(tags, self._tags),
            uses=happened,
            components=self._components(alone, reward, found),
            key=key,
        )

    def _components(
        self, alone: list[int | None], reward: list[float | None], found: dict[int, Used]
    ) -> dict[str, tuple[list[int], list[float | None]]]:
        """See `Figures.components`. `found`: what a longer look found, by place."""
        if not found and len(names := set(alone)) == 1:
            (name,) = names
            return {} if name is None else {self._text(name): ([*range(len(alone))], reward)}
        components: dict[str, tuple[list[int], list[float | None]]] = {}
        for n, name in enumerate(alone):
            of = found[n].components if n in found else {} if name is None else {self._text(name): reward[n]}
            for component, value in of.items():
                places, values = components.setdefault(component, ([], []))
                places.append(n)
                values.append(value)
        return components

    def _each(self, column: list[Any], meant: Callable[[Any], Any]) -> list[Any]:
        """What each value of a column means; values that repeat are looked up once."""
        known = {value: meant(value) for value in set(column)}
        return [*map(known.__getitem__, column)]

    def _task(self, task: Any) -> Any:
        if isinstance(task, str):
            number = self._find(msgspec.json.encode(task).decode())
            return task if number < 0 else 2 * number + 1
        return task

    def _text(self, number: int | None) -> Any:
        if number is None:
            return None
        found = self._texts.get(number)
        if found is None:
            if len(self._texts) >= PAGE:
                self._texts.clear()
            found = self._texts[number] = self._ask("select text from texts where number=?", (number,))[0][0]
        return found

    def _tags(self, number: int | None) -> Sequence[str]:
        return () if number is None else msgspec.json.decode(self._text(number))

    def _happened(self, number: int | None) -> Sequence[tuple[str, str]]:
        if number is None:
            return ()
        found = self._uses.get(number)
        if found is None:
            if len(self._uses) >= PAGE:
                self._uses.clear()
            found = self._uses[number] = [(kind, name) for kind, name, _ in msgspec.json.decode(self._text(number))]
        return found
