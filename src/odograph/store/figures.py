"""What statistics read of trajectories: columns of values out of the catalog, a page at a time: quicker than summaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from .rows import UNKNOWN_TIME, Key, single_reward, unpacked
from .summary import Used

PAGE = 250
#: A column of the catalog for each thing that figures are told apart by.
_BY = {
    "group": "iif(replay, null, grp_number)",  # a replay is in no group
    "agent": "agent_number",
    "model": "coalesce(model_number, first_model_number)",
    "policy_version": "policy_version_number",
}
_COLUMNS = (
    "began, first_apart, id, grp_number, task_number, task_id, status_number, source is null, writer_number, steps,"
    " coalesce(stated_calls, llm_calls), actions, coalesce(stated_prompt, prompt_tokens),"
    " coalesce(stated_completion, completion_tokens), reward, tags_number, uses_number, rewards,"
    " exists (select 1 from rewards where trajectory=t.id) or exists (select 1 from uses where trajectory=t.id)"
)


class Figures(msgspec.Struct):
    """Some trajectories, oldest first: each list has a value of each of them."""

    #: What attempts of one task have in common; None where a trajectory is on its own.
    task: list[Any]
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
    #: The value that counts under each name of a reward.
    components: list[dict[str, float | None]]
    #: What `by` asked for.
    key: list[Any]

    def take(self, places: list[int]) -> Figures:
        """Some of them."""
        return Figures(*([column[n] for n in places] for column in msgspec.structs.astuple(self)))


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
        self, by: str | None, where: str, values: Sequence[Any], last: int, limit: int | None, alive: Callable[[], set[str]]
    ) -> Iterator[Figures]:
        """The chosen trajectories, a page at a time."""
        after, page, left = "", (), limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            rows = self._ask(
                f"select {_COLUMNS}, {_BY.get(by or '', 'null')} from trajectories as t where {where} and first<=?{after}"
                " order by began, first_apart, id limit ?",
                (*values, last, *page, size),
            )
            if rows:
                yield self._figures(rows, by, alive)
            if len(rows) < size:
                return
            after, page = " and (began, first_apart, id)>(?, ?, ?)", rows[-1][:3]
            left = None if left is None else left - len(rows)

    def _figures(self, rows: list[Any], by: str | None, alive: Callable[[], set[str]]) -> Figures:
        columns = [list(column) for column in zip(*rows, strict=True)]
        began, _, ids, group, task, task_id, status, own, writer, steps, calls, actions, prompt, completion, reward = columns[:15]
        tags, uses, rewards, late, key = columns[15:]
        status = [self._text(one) for one in status]
        if None in status:
            running = alive()
            status = [
                one if one is not None else "running" if mine and self._text(who) in running else "unterminated"
                for one, mine, who in zip(status, own, writer, strict=True)
            ]
        components: list[dict[str, float | None]] = []
        whole: dict[int, Key] = {}
        for n, text in enumerate(rewards):
            found = {} if text is None else single_reward(text, reward[n])
            if found is None or late[n]:
                whole[n], found = ids[n], {}
            components.append(found)
        happened: list[Sequence[tuple[str, str]]] = [() if one is None else self._happened(one) for one in uses]
        if whole:
            used = self._used([unpacked(one) for one in whole.values()])
            for n, one in whole.items():
                about = used.get(unpacked(one), Used())
                components[n], happened[n] = about.components, about.uses
        if by is not None and by in _BY:
            key = [self._text(one) for one in key]
            key = [None if one is None else msgspec.json.decode(one) for one in key] if by == "policy_version" else key
        return Figures(
            task=[("group", g) if g is not None else self._task(t, i) for g, t, i in zip(group, task, task_id, strict=True)],
            status=status,
            steps=steps,
            llm_calls=calls,
            actions=actions,
            prompt_tokens=prompt,
            completion_tokens=completion,
            reward=reward,
            started=[None if one == UNKNOWN_TIME else one for one in began],
            tags=[() if one is None else msgspec.json.decode(self._text(one)) for one in tags],
            uses=happened,
            components=components,
            key=key,
        )

    def _task(self, task: int | None, task_id: str | None) -> Any:
        if task_id is not None:
            number = self._find(msgspec.json.encode(task_id).decode())
            return task_id if number < 0 else number
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

    def _happened(self, number: int) -> list[tuple[str, str]]:
        found = self._uses.get(number)
        if found is None:
            if len(self._uses) >= PAGE:
                self._uses.clear()
            found = self._uses[number] = [(kind, name) for kind, name, _ in msgspec.json.decode(self._text(number))]
        return found
