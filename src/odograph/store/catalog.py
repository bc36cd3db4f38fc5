"""What is where, and the summaries: SQLite beside the journal. Written by readers, never by capture; can be deleted.

What a catalog answers stands here, and its SQL here and in `listing`, `text`, `where` and `figures`; how it stays true stands in
`keeping` and `indexing`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any

from ..codec import encode
from ..errors import NotFound
from ..totals import by_name
from . import scan
from .figures import ORDER, Figures, Reading
from .filters import EVERY, Filters
from .indexing import as_rewards, searchable, standing_of, uses_with
from .keeping import SEALED, Kept
from .lake import Part
from .layout import RECORDS, SUMMARY, TRAJECTORIES
from .lines import Damage, File, Gone, is_alive, read_range, size_of, unfinished
from .listing import STATES_OF, VALUES, Fold, Sort, folds, order_of, statuses
from .rows import IDS, REWARD, Key, Texts, begins, packed, unpacked, unpacked_rewards
from .summary import SUMMARIES, Facts, Hit, Summary, Used, summary_of
from .text import FOUND, HAVING, matching
from .where import where

_HEX = re.compile("[0-9a-f-]*[0-9a-f]")
_PAGE = 100  # summaries that are read at once
_SOME = 1000  # ids that a query names


class Catalog(Kept):
    """The catalog of one store: of its journal folder and of its sealed tier."""

    # --- where lines are ----------------------------------------------------------------------------------------------

    def find(self, id: str) -> str:
        """The whole id of a unique prefix or suffix. Raises NotFound."""
        if self._rows("select 1 from summaries where id=?", (packed(id),)):
            return id
        wanted = id.lower()
        some = [unpacked(key) for key in self._near(wanted)] if wanted else []
        unique = sorted({one for one in some if one.startswith(wanted) or one.endswith(wanted)})
        if len(unique) == 1:
            return unique[0]
        if not unique:
            count = self._rows("select count(*) from summaries")[0][0]
            raise NotFound(f"no trajectory {id!r} among the {count} of this store")
        more = ", ..." if len(unique) > 5 else ""
        raise NotFound(f"{id!r} is not one trajectory but several: {', '.join(unique[:5])}{more}")

    def _near(self, part: str) -> Iterator[Key]:
        """Ids of which some begin or end so, if any do."""
        asked: list[tuple[str, tuple[Any, ...]]] = [
            ("id>=? and id<?", (part, part + "\U0010ffff")),
            ("substr(id, -3)=? and substr(id, ?)=?", (part[-3:], -len(part), part)),
        ]
        if len(part) < 3:
            asked.append(("typeof(id)='text' and substr(id, ?)=?", (-len(part), part)))
        between, digits = begins(part), part.replace("-", "")
        if between is not None:
            asked.append(("id>=? and id<=?", between))
        if _HEX.fullmatch(part):  # else all ids are looked at, which the index of ids holds
            end = ("substr(id, -3)=? and ", (bytes.fromhex(digits[-6:]),)) if len(digits) >= 6 else ("", ())
            asked.append((f"{end[0]}typeof(id)='blob' and substr(lower(hex(id)), ?)=?", (*end[1], -len(digits), digits)))
        for query, values in asked:
            yield from (key for (key,) in self._rows(f"select id from summaries where {query} order by id limit 6", values))

    def places(self, id: str) -> list[tuple[File, int, int]]:
        """Where a trajectory's lines are: (file, start, stop), in the order they were found."""
        rows = self._rows("select file, start, stop from places where trajectory=? order by rowid", (packed(id),))
        by_name = {f.name: f for f in self.files()} if any(r[0] not in self._files for r in rows) else self._files
        if any(r[0] not in by_name for r in rows):
            raise Gone(f"a journal file of trajectory {id!r} is gone")
        return [(by_name[name], start, stop) for name, start, stop in rows]

    def misses(self, id: str) -> bool:
        """Whether the catalog lists a trajectory and knows none of its lines."""
        listed = "select 1 from summaries where id=? and sealed is null and not exists(select 1 from places where trajectory=id)"
        return bool(self._rows(listed, (packed(id),)))

    def damages(self) -> list[Damage]:
        """Damaged lines, and ends of files that a killed writer left torn."""
        found = [Damage(*row) for row in self._rows("select file, offset, reason from damages")]
        for file in self.files():
            rows = self._rows("select indexed from files where name=?", (file.name,))
            start = rows[0][0] if rows else 0
            if size_of(file.path) > start and not is_alive(file.path):
                rest = unfinished(file.path, start)
                found.append(Damage(file.name, start, f"torn last line of {len(rest)} bytes", torn=True))
        return found

    def parts(self, id: str) -> list[Part]:
        """Where the rows of a trajectory are in the sealed tier."""
        return self._parts_of(self._rows(SEALED, (packed(id),) * 2))

    def rows(self, ids: list[str]) -> list[tuple[Any, ...]]:
        """The columns of the sealed tier's summaries, of these trajectories."""
        columns = ", ".join(SUMMARY)
        rows = self._rows(f"select {columns} from trajectories where id in ({IDS})", (encode(ids).decode(),))
        ids_at = [[*SUMMARY].index(name) for name in ("id", "root")]
        return [tuple(unpacked(one) if n in ids_at else one for n, one in enumerate(row)) for row in rows]

    def sealed_since(self, time: int, most: int | None) -> list[str]:
        """The trajectories with sealed lines of which a record was written after a time, or the last ones of these."""
        rows = self._rows(
            "select id from trajectories where sealed is not null and last>? order by last desc limit ?",
            (time, -1 if most is None else most),
        )
        return [unpacked(id) for (id,) in rows]

    def unsealed(self) -> list[str]:
        """The trajectories that have lines in the journal."""
        return sorted(unpacked(id) for (id,) in self._rows("select distinct trajectory from places"))

    def facts(self, id: str) -> Facts:
        """What is appended to a trajectory needs to know of it, by its whole id."""
        root, agent, last = self._rows("select root, agent, last from trajectories where id=?", (packed(id),))[0]
        return Facts(unpacked(root), agent, last)

    def _chosen(self, filters: Filters, alive: Callable[[], set[str]]) -> tuple[str, list[Any]]:
        """What must hold of a row, and the values in it."""
        if filters.text is not None:
            self.index_text()
        clauses, values = where(filters, self.find, self._having, alive, self._number)
        return " and ".join(["1", *clauses]), values

    def _pieces(self, filters: Filters, alive: Callable[[], set[str]], last: int, order: str) -> Iterator[tuple[str, list[Any]]]:
        """The same, of some trajectories after the other where they are named, or found by their text: each page of a list would
        look at the ids of all of them again."""
        chosen, values = self._chosen(filters, alive)
        if filters.ids is None and filters.text is None:
            yield chosen, values
            return
        rows = self._rows(f"select id from trajectories where {chosen} and first<=? order by {order}", (*values, last))
        for start in range(0, len(rows), _SOME):
            yield f"id in ({IDS})", [encode([unpacked(id) for (id,) in rows[start : start + _SOME]]).decode()]

    def _number(self, text: str) -> int:
        with self._lock:
            return self._mended(lambda: Texts(self._db).find(text))

    def summaries(self, filters: Filters, *, newest_first: bool) -> Iterator[Summary]:
        """Summaries of the trajectories that there are now, in the order in which these began, a page of them in memory at a
        time; where the time is not known a trajectory counts as older than all."""
        alive = cache(self.alive_writers)
        last = self._rows("select first from newest")[0][0]
        way, direction = ("<", "desc") if newest_first else (">", "asc")
        order = ", ".join(f"{column} {direction}" for column in ("began", "first_apart", "id"))
        left = filters.limit
        for chosen, values in self._pieces(filters, alive, last, order):
            page: tuple[Any, ...] = ()
            while left is None or left > 0:
                size = _PAGE if left is None else min(_PAGE, left)
                after = f" and (began, first_apart, id){way}(?, ?, ?)" if page else ""
                rows = self._rows(
                    f"{SUMMARIES} where {chosen} and first<=?{after} order by {order} limit ?",
                    (*values, last, *page, size),
                )
                yield from (summary_of(row, alive) for row in rows)
                left = None if left is None else left - len(rows)
                if len(rows) < size:
                    break
                page = (rows[-1][26], rows[-1][25], rows[-1][0])

    def count(self, filters: Filters = EVERY) -> int:
        """How many trajectories filters choose."""
        chosen, values = self._chosen(filters, self.alive_writers)
        found = int(self._rows(f"select count(*) from trajectories where {chosen}", tuple(values))[0][0])
        return found if filters.limit is None else min(found, filters.limit)

    def page(self, filters: Filters, sort: Sort, offset: int, size: int) -> list[Summary]:
        """`size` summaries from a place of the sorted list on."""
        alive = cache(self.alive_writers)
        chosen, values = self._chosen(filters, alive)
        rows = self._rows(f"{SUMMARIES} where {chosen} order by {order_of(sort)} limit ? offset ?", (*values, size, offset))
        return [summary_of(row, alive) for row in rows]

    def counts(self, filters: Filters, most: int = 50) -> dict[str, list[tuple[Any, int]]]:
        """For each filter of a fixed choice, the values of the chosen trajectories with their counts, the most frequent first."""
        alive = self.alive_writers()
        chosen, values = self._chosen(filters, lambda: alive)
        return {name: self._rows(query.format(chosen), tuple(values))[:most] for name, query in VALUES.items()} | {
            "status": statuses(self._rows(STATES_OF.format(chosen), tuple(values)), alive)
        }

    def folded(self, filters: Filters, sort: Sort, offset: int, size: int) -> tuple[int, list[Fold]]:
        """How many groups the chosen trajectories are in, and `size` of the groups from a place of the sorted list on."""
        alive = self.alive_writers()
        chosen, values = self._chosen(filters, lambda: alive)
        number = int(self._rows(f"select count(distinct grp_number) from trajectories where {chosen}", tuple(values))[0][0])
        rows = self._rows(f"{folds(chosen, sort)} limit ? offset ?", (*values, size, offset))
        return number, [Fold(*row) for row in rows]

    def forks(self, id: str) -> list[tuple[str, int | None]]:
        """The trajectories that left a trajectory, each with the step where it left."""
        rows = self._rows(
            "select id, fork->>'step' from trajectories where fork is not null and fork->>'trajectory'=? order by first, id",
            (id,),
        )
        return [(unpacked(one), step) for one, step in rows]

    def used(self, ids: list[str]) -> dict[str, Used]:
        """What happened in trajectories, of those of which anything is known."""
        given = (encode(ids).decode(),)
        found: dict[str, Used] = {}
        chosen = f"in ({IDS})"
        rewarded: dict[Key, list[list[Any]]] = {}
        used: dict[Key, list[tuple[str, str, int]]] = {}
        with self._lock:  # all three as of one time
            about = "id, agent, uses, rewards, root, writer, reward, end_time"
            rows = self._rows(f"select {about} from trajectories where id {chosen}", given)
            for id, *reward in self._rows(
                f"select trajectory, {REWARD}, supersedes from rewards where trajectory {chosen}", given
            ):
                rewarded.setdefault(id, []).append(reward)
            for id, *use in self._rows(f"select trajectory, kind, name, count from uses where trajectory {chosen}", given):
                used.setdefault(id, []).append((use[0], use[1], use[2]))
        for key, agent, sealed_uses, sealed, root, *more in rows:
            id = unpacked(key)
            uses = uses_with(used.get(key, ()), sealed_uses)
            rewards = as_rewards(standing_of(rewarded.get(key, []), unpacked_rewards(sealed, unpacked(root), *more)), agent)
            if not uses and not rewards:
                continue
            found[id] = Used([(kind, name) for kind, name, _ in uses], by_name(rewards))
        return found

    def figures(self, filters: Filters, by: str | None) -> Iterator[Figures]:
        """Columns of the trajectories that there are now, for statistics, a page of them in memory at a time."""
        alive = cache(self.alive_writers)
        last = self._rows("select first from newest")[0][0]
        pieces = self._pieces(filters, alive, last, ORDER)
        yield from Reading(self._rows, self.used, self._number).pages(by, pieces, last, filters.limit, alive)

    def scored(self, source: str, author: str, version: str) -> dict[str, int]:
        """Of each trajectory, how many targets (itself, or its steps) have all their rewards by this version of a function."""
        names: dict[tuple[Key, str | None, int | None], set[str]] = {}
        most: dict[tuple[Key, str | None, int | None], int] = {}
        with self._lock:  # all as of one time
            replaced = {id for (id,) in self._rows("select supersedes from rewards where supersedes is not null")}
            given = [
                (key, reward)
                for key, *reward in self._rows(
                    f"select trajectory, {REWARD} from rewards where author=? and version=?", (author, version)
                )
            ]
            for key, root, *about in self._rows(
                "select id, root, rewards, writer, reward, end_time from trajectories where instr(rewards, ?)",
                (encode(version).decode(),),
            ):
                given += [(key, reward) for reward in unpacked_rewards(about[0], unpacked(root), *about[1:])]
        for key, r in given:
            if (r[7], r[8], r[12]) == (source, author, version) and r[9] is not None and not r[11] and r[0] not in replaced:
                target = key, r[4], r[5]
                names.setdefault(target, set()).add(r[6])
                most[target] = max(r[13], most.get(target, 1))
        return Counter(unpacked(target[0]) for target, found in names.items() if len(found) >= most[target])

    # --- full text ----------------------------------------------------------------------------------------------------

    def _having(self, text: str) -> list[str]:
        """The trajectories of which a line holds all the words."""
        words = matching(text)
        found = {unpacked(id) for (id,) in self._rows(HAVING, (words,))}  # first: what is sealed meanwhile is in both
        while self._lake.exists:
            with suppress(Gone):  # a compaction merged files: what they held is in another one
                found |= scan.trajectories(self._lake, words)
                break
        return sorted(found)

    def search(self, query: str, limit: int) -> Iterator[Hit]:
        """Lines that hold all the words, newest first."""
        for count, hit in enumerate(self._hits(query, limit)):
            if count == limit:
                return
            yield hit

    def _hits(self, query: str, limit: int) -> Iterator[Hit]:
        words = matching(query)
        while True:
            known = self._rows("select seq from lake")
            rows = self._rows(FOUND, (words, limit))
            files = self._lake.files(RECORDS.name) if len(rows) < limit and self._lake.exists else []
            if not files or known == [(self._lake.commits.last(TRAJECTORIES.name),)]:
                break
            self.look()  # else what is sealed meanwhile would be in both
        for key, kind, step, name, start, stop in rows:
            found = searchable(read_range(self._journal / name, start, stop).rstrip(b"\n"))
            yield Hit(unpacked(key), kind, step, found[3] if found else "")
        yield from (Hit(*found) for found in scan.matching(self._lake, words, files))
