"""The commits of tables that machines share, on files and SQLite: each commit is made whole, once, and answers as in a folder."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("pyiceberg")

from odograph.codec import content_hash, new_id
from odograph.errors import NewerStore, StoreError
from odograph.tables import iceberg, namespace
from odograph.tables.commits import Commit, Commits, Conflict
from odograph.tables.files import DamagedFile, DataFile, Footer, Writer
from odograph.tables.folder import FolderCommits
from odograph.tables.iceberg import IcebergCommits
from odograph.tables.schema import Column, Table
from odograph.tables.shared import Shared

#: The truth, and another table.
BIRDS = Table("birds", "A row per bird.", ((Column("name", "text", "Its name."),),))
NESTS = Table("nests", "A row per nest.", ((Column("place", "text", "Where."),),))
DAY = 86_400 * 10**9


class Team:
    """Tables that machines share; each has a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.place = Shared(f"file://{root}/warehouse/runs", f"sqlite:///{root}/catalog.db", "runs")
        self.opened: list[IcebergCommits] = []

    def machine(self, name: str = "a", *, named: bool = False, prepared: bool = True) -> IcebergCommits:
        more: dict[str, Any] = {"named": True} if named else {}
        commits = IcebergCommits(self.root / name, self.place, {t.name: t for t in (NESTS, BIRDS)}, BIRDS.name, **more)
        self.opened.append(commits)
        if prepared:
            commits.prepare()
        return commits

    def live(self, table: str) -> set[str]:
        """The names of all files that a table has, seen or not."""
        found = self.opened[0]._space._catalog.load_table(f"runs.{table}")
        return {task.file.file_path.rpartition("/")[2] for task in found.scan().plan_files()}

    def stored(self, table: str) -> set[str]:
        """The names of the files of a table in the storage, whether a table has them or not."""
        return {path.name for path in (self.root / "warehouse" / "runs" / table).rglob("*.parquet")}


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    (tmp_path / "warehouse").mkdir()
    team = Team(tmp_path)
    yield team
    for commits in team.opened:
        commits.close()


def written(commits: Commits, id: str, *tables: Table) -> list[DataFile]:
    """A file of one row for each table, as a commit brings them."""
    found = []
    for table in tables:
        writer = Writer(commits.root, f"{table.name}/{id}.parquet", table, Footer(id))  # type: ignore[attr-defined]
        writer.write([{table.names[0]: id}])
        found.append(writer.close(Footer(id)))
    return found


def paths(commits: Commits, table: Table, since: int = 0) -> list[str]:
    return [one.file.path for one in commits.files(table.name, since)]


def asked(commits: Commits, ids: list[str]) -> dict[str, Any]:
    """What commits say, but for their times."""
    return {
        "exists": commits.exists,
        "last": [commits.last(t.name) for t in (BIRDS, NESTS)],
        "files": [[(one.file.path, one.file.rows, one.file.bytes) for one in commits.files(t.name)] for t in (BIRDS, NESTS)],
        "since": [[paths(commits, table, since) for table in (BIRDS, NESTS)] for since in range(6)],
        "latest": [[one.file.path for one in commits.latest("nests", before)] for before in ("~", f"{ids[2]}.parquet")],
        "none": [one.file.path for one in commits.latest("nests", "")],
        "commits": [[(one.seq, one.id, one.properties) for one in commits.commits(since)] for since in range(6)],
        "found": [commits.find(id) and (commits.find(id).seq, commits.find(id).properties) for id in ids],  # type: ignore[union-attr]
        "keys": [commits.key("a"), commits.key("b/1"), commits.keys(""), commits.keys("b/"), commits.keys("c")],
        "pending": commits.pending(),
    }


@pytest.mark.parametrize("named", [False, True])
def test_shared_commits_answer_as_those_of_a_folder(team: Team, tmp_path: Path, named: bool) -> None:
    """Files put in and taken out, keys set, changed and taken away, and what was committed before: the same answers, also on a
    machine that never saw them, and before anything was committed."""
    folder, shared = FolderCommits(tmp_path / "folder"), team.machine(named=named, prepared=False)
    ids, other = sorted(new_id() for _ in range(4)), f"nests/{new_id()}.parquet"
    assert shared.id == ""
    assert asked(shared, ids) == asked(folder, ids)
    told = []
    for commits in (folder, shared):
        commits.prepare()
        first, second, third, fourth = [written(commits, id, BIRDS, NESTS) for id in ids]
        seqs = [commits.commit(ids[0], first, properties={"n": 1}, keys={"a": "1", "b/2": "x", "b/1": "y"}, expect={"a": None})]
        assert [one.added for one in commits.files("birds")] == seqs
        seqs.append(commits.commit(ids[2], third, keys={"a": "2"}, expect={"a": "1", "b/1": "y", "c": None}))
        gone = [third[1].path, *([] if named else [first[0].path])]  # files of the truth say which commits were made
        seqs.append(commits.commit(ids[1], second, gone, keys={"b/2": None, "c": None}))
        seqs += [commits.commit(id, first, keys={"a": "9"}, check=lambda: pytest.fail("it is made")) for id in ids[:3]]
        assert commits.orphans() == sorted(commits.root / one.path for one in fourth)  # type: ignore[attr-defined]
        said = []
        wrong: tuple[Any, ...] = ({"expect": {"a": "1"}}, {"expect": {"c": "1"}}, {"remove": gone[-1:]}, {"remove": [other]})
        for given, files in itertools.product(wrong, (fourth, [])):
            with pytest.raises(Conflict) as error:
                commits.commit(ids[3], files, properties={"n": 2}, **given)
            said.append(str(error.value))
        told.append((seqs, said))
    assert told[0] == told[1]
    machine = team.machine("b", named=named, prepared=False)
    assert asked(shared, ids) == asked(machine, ids) == asked(folder, ids)
    assert shared.id == machine.id != folder.id
    assert team.live("nests") == {f"{id}.parquet" for id in ids[:2]}


class Died(BaseException):
    """A process that ends there."""


@contextmanager
def at(monkeypatch: pytest.MonkeyPatch, where: str, then: Callable[[], object]) -> Iterator[None]:
    """Something happens while a commit inside is at a stage, the first time."""
    left = [then]

    def stage(name: str) -> None:
        if name == where and left:
            left.pop()()

    with monkeypatch.context() as patch:
        patch.setattr(iceberg, "stage", stage)
        yield
    assert not left


def refused_once(catalog: Any) -> Callable[..., Any]:
    """How a catalog changes a table, but that it refuses the first change, as if another one came first."""
    from pyiceberg.exceptions import CommitFailedException

    commit_table, left = catalog.commit_table, [1]

    def refuses(*given: Any) -> Any:
        if left:
            raise CommitFailedException(str(left.pop()))
        return commit_table(*given)

    return refuses


def dies() -> None:
    raise Died


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("look", [1, 2, 3])
def test_a_commit_that_is_refused_brings_nothing(team: Team, named: bool, look: int) -> None:
    """Whether the commit is refused before it brings files, after them, or after another commit came first: the files are in no
    table and not in the storage then, and no mark stays. What others commit meanwhile stays."""
    a, b = team.machine(named=named), team.machine("b", named=named)
    id, others = f"w/{new_id()}", [new_id() for _ in range(3)]
    looks: list[int] = []

    def check() -> None:
        looks.append(b.commit(other := others[len(looks)], written(b, other, BIRDS, NESTS)))
        if len(looks) == look:
            raise Conflict("no")

    with pytest.raises(Conflict, match=r"^no$"):
        a.commit(id, written(a, id[2:], BIRDS, NESTS), check=check)
    names = {f"{other}.parquet" for other in others[:look]}
    assert team.live("nests") == team.live("birds") == team.stored("nests") == team.stored("birds") == names
    assert a.pending() == {} and len(looks) == look
    for machine in (a, b, team.machine("c", named=named)):
        machine.refresh()
        assert {path.partition("/")[2] for path in paths(machine, NESTS)} == names
        assert machine.find(id) is None


def test_a_commit_that_was_made_long_ago_and_is_refused_keeps_its_files(team: Team) -> None:
    """Where the truth's own file of a commit was merged away, and nothing says any more that the commit was made: whoever makes the
    commit again is refused, and the files that the commit brought to other tables stay."""
    a, id = team.machine(), new_id()
    a.commit(id, written(a, id, BIRDS, NESTS), keys={"k": "1"}, expect={"k": None})
    a.commit(new_id(), [], paths(a, BIRDS))
    a.expire(time.time_ns())
    with pytest.raises(Conflict, match="somebody else was here first"):
        a.commit(id, written(a, id, BIRDS, NESTS), keys={"k": "1"}, expect={"k": None})
    assert paths(a, NESTS) == [f"nests/{id}.parquet"] and team.stored("nests") == {f"{id}.parquet"}


def test_a_refused_commit_deletes_no_file_of_another_name(team: Team) -> None:
    """Files that do not bear the commit's name, as those of a publication, may be another commit's too."""
    a, b, id, shared = team.machine(named=True), team.machine("b", named=True), new_id(), new_id()

    def check() -> None:
        if not paths(b, BIRDS):
            b.commit(new_id(), written(b, shared, BIRDS, NESTS))
        else:
            raise Conflict("no")

    with pytest.raises(Conflict):
        a.commit(id, written(a, shared, BIRDS, NESTS), check=check)
    assert team.stored("nests") == team.stored("birds") == {f"{shared}.parquet"}


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_commits_at_once_are_both_made(team: Team, named: bool, alone: bool) -> None:
    """A commit before which another one comes is checked again, and made; each says its own place."""
    a, b = team.machine(named=named), team.machine("b", named=named)
    tables = [BIRDS] if alone else [BIRDS, NESTS]
    ids = [new_id() for _ in range(2)]
    seqs: list[int] = []

    def check() -> None:
        if not seqs:
            seqs.append(b.commit(ids[0], written(b, ids[0], *tables), keys={"k": "b"}))

    seqs.append(a.commit(ids[1], written(a, ids[1], *tables), keys={"k": "a"}, check=check))
    assert seqs == [1, 2]
    for machine in (a, b):
        machine.refresh()
        assert [(one.seq, one.id) for one in machine.commits()] == [*zip(seqs, ids, strict=True)]
        assert (machine.key("k"), machine.last("birds"), machine.pending()) == ("a", 2, {})
        for table in tables:
            assert sorted(paths(machine, table)) == sorted(f"{table.name}/{id}.parquet" for id in ids)


@pytest.mark.parametrize("arrives", [False, True])
@pytest.mark.parametrize("change", ["mark", "nests", "birds"])
def test_a_change_whose_answer_is_lost_is_looked_for(
    team: Team, monkeypatch: pytest.MonkeyPatch, arrives: bool, change: str
) -> None:
    """Where the connection breaks at a change of a table, an error says so, unless the files arrived; then the commit is made once."""
    from pyiceberg.table import Transaction

    a, id, made = team.machine(), new_id(), Transaction.commit_transaction
    left = [["mark", "nests", "birds"].index(change)]

    def breaks(self: Transaction) -> None:
        left[0] -= 1
        if left[0] != -1 or arrives:
            made(self)
        if left[0] == -1:
            raise ConnectionError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "commit_transaction", breaks)
        if arrives and change != "mark":
            assert a.commit(id, written(a, id, BIRDS, NESTS)) == 1
        else:
            with pytest.raises(StoreError, match="can't be written: broken; nothing that was recorded is lost"):
                a.commit(id, written(a, id, BIRDS, NESTS))
    assert a.commit(id, written(a, id, BIRDS, NESTS)) == a.last("birds") == 1
    assert (len(a.commits()), team.live("nests"), paths(a, NESTS)) == (1, {f"{id}.parquet"}, [f"nests/{id}.parquet"])
    assert team.stored("nests") == team.stored("birds") == {f"{id}.parquet"}


def test_before_each_change_of_a_table_another_one_comes(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change of a table is made again over what others did to the table meanwhile; nothing is lost, and nothing is twice."""
    a, b = team.machine(), team.machine("b")
    ids, of_others = [new_id() for _ in range(2)], [new_id()]
    b.commit(of_others[0], written(b, of_others[0], BIRDS, NESTS))
    catalog = a._space._catalog
    commit_table, free = catalog.commit_table, [False]

    def after_another(*given: Any) -> Any:
        if not free[0]:
            of_others.append(new_id())
            b.commit(of_others[-1], written(b, of_others[-1], BIRDS, NESTS))
        free[0] = not free[0]
        return commit_table(*given)

    with monkeypatch.context() as patch:
        patch.setattr(catalog, "commit_table", after_another)
        for n, id in enumerate(ids):
            gone = [one.path for one in written(b, ids[n - 1], BIRDS, NESTS)] if n else []
            a.commit(id, written(a, id, BIRDS, NESTS), gone)
            for path in gone:
                (b.root / path).unlink()
        assert a.expire(time.time_ns()) == [f"{table.name}/{id}.parquet" for id in ids[:1] for table in (BIRDS, NESTS)]
    there = {*of_others, ids[1]}
    assert len(of_others) > 5
    for machine in (a, b, team.machine("c")):
        machine.refresh()
        assert machine.pending() == {}
        for table in (BIRDS, NESTS):
            found = paths(machine, table)
            assert {Path(path).stem for path in found} == there and len(found) == len(there)
            assert team.live(table.name) == {f"{id}.parquet" for id in there}


@pytest.mark.parametrize("before", ["commit_table", "load_table"])
def test_machines_expire_at_once(team: Team, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    """Whatever of what one machine takes out for good another one has taken out a moment before: both end, and all of it is gone."""
    a, b = team.machine(), team.machine("b")
    ids, times, gone = [new_id() for _ in range(3)], [0], list[str]()
    for id in ids:
        files = written(a, id, BIRDS, NESTS)
        a.commit(id, files, gone)
        gone = [file.path for file in files]
        times.append(time.time_ns())
    catalog, until = a._space._catalog, iter(times)
    called = getattr(catalog, before)

    def after_another(*given: Any) -> Any:
        found = called(*given) if before == "load_table" else None
        with monkeypatch.context() as patch:
            patch.setattr(catalog, before, called)
            b.expire(next(until, times[-1]))
        return found or called(*given)

    with monkeypatch.context() as patch:
        patch.setattr(catalog, before, after_another)
        a.expire(times[-1])
    assert {path.stem for path in (team.root / "warehouse").rglob("*.parquet")} == {ids[-1]}
    for table in (BIRDS, NESTS):
        found = catalog.load_table(f"runs.{table.name}")
        assert len(found.metadata.snapshots) == 1
        assert [name for name in found.metadata.properties if name.startswith("odograph.replaced")] == []


@pytest.mark.parametrize("change", [1, 3])
def test_what_can_not_be_taken_out_is_told_at_once(team: Team, monkeypatch: pytest.MonkeyPatch, change: int) -> None:
    """Where a catalog does not answer and no other machine changed the table, nothing is tried for minutes: neither where snapshots
    are forgotten nor where the commit's note of what it took out is."""
    a, ids, gone = team.machine(), [new_id() for _ in range(2)], list[str]()
    for id in ids:
        files = written(a, id, BIRDS, NESTS)
        a.commit(id, files, gone)
        gone = [file.path for file in files]
    catalog, changes = a._space._catalog, itertools.count(1)
    called = catalog.commit_table

    def broken(*given: Any) -> Any:
        at = next(changes)
        if at > change:
            pytest.fail("it is tried again")
        if at == change:
            raise ConnectionError("broken")
        return called(*given)

    monkeypatch.setattr(catalog, "commit_table", broken)
    with pytest.raises(StoreError, match="can't be written: broken"):
        a.expire(time.time_ns())


GROWN = Table(
    "birds", "A row per bird.", ((Column("name", "text", "Its name."), Column("tags", "texts", "Tags.")),)
).with_columns(Column("calls", "texts", "What it sang."), Column("ring", "text", "Its ring."))


@pytest.mark.parametrize("there", [False, True])
def test_tables_that_machines_make_at_once_are_made_once(team: Team, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Where another machine makes a table, or gives it its new columns, in the moment before: the table is used. Field ids are those
    that files state. A table that has all is not changed again."""
    tables = {"birds": GROWN}
    a, b = (IcebergCommits(team.root / name, team.place, tables, "birds") for name in "ab")
    team.opened += [a, b]
    if there:
        first = {"birds": msgspec.structs.replace(GROWN, generations=GROWN.generations[:1], version=1)}
        IcebergCommits(team.root / "c", team.place, first, "birds").prepare()
    catalog = a._space._catalog
    with monkeypatch.context() as patch:
        for name in ("commit_table",) if there else ("create_namespace", "create_table"):
            called = getattr(catalog, name)
            patch.setattr(catalog, name, lambda *given, called=called, **more: (b.prepare(), called(*given, **more))[1])
        a.prepare()
    made = a._space.load("birds")
    fields = {field.name: field for field in made.schema().fields}
    found = {name: field.field_id for name, field in fields.items()}
    found |= {f"{name}.element": fields[name].field_type.element_id for name in ("tags", "calls")}
    assert found == GROWN.field_ids and [*fields] == [*GROWN.names]
    assert fields["ring"].doc == "Its ring." and made.properties["comment"] == GROWN.doc
    a.prepare()
    assert a._space.load("birds").metadata_location == made.metadata_location
    with pytest.raises(NewerStore, match="birds has version 2; this Odograph reads up to 1"):
        IcebergCommits(team.root / "d", team.place, {}, "birds").refresh()


def test_each_table_is_changed_once(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit changes each of its tables once, and sets its mark before; an expiry changes what it cleans once."""
    a, grown = team.machine(), IcebergCommits(team.root / "b", team.place, {"birds": GROWN}, "birds")
    team.opened.append(grown)
    changes: list[str] = []

    def counted(commits: IcebergCommits) -> None:
        catalog = commits._space._catalog
        commit_table = catalog.commit_table
        monkeypatch.setattr(
            catalog, "commit_table", lambda of, *given: (changes.append(of.name()[-1]), commit_table(of, *given))[1]
        )

    def made(then: Callable[[], object]) -> list[str]:
        changes.clear()
        then()
        return [*changes]

    counted(a)
    id, other = new_id(), new_id()
    files = written(a, id, BIRDS, NESTS)
    assert made(lambda: a.commit(id, files)) == ["birds", "nests", "birds"]
    assert made(lambda: a.commit(new_id(), keys={"a": "1"})) == ["birds"]
    assert made(lambda: a.commit(other, written(a, other, BIRDS), [files[1].path])) == ["birds", "nests"]
    assert made(lambda: a.expire(time.time_ns())) == ["nests", "birds", "birds"]
    assert made(lambda: a.expire(time.time_ns())) == []
    grown.close()
    counted(grown)
    assert made(grown.prepare) == ["birds"]


@pytest.mark.parametrize("named", [False, True])
def test_a_commit_forgets_old_snapshots(team: Team, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    """Tables that many commits changed have few snapshots all the same."""
    monkeypatch.setattr(iceberg, "_BRIEFLY" if named else "_LONG", (3, 0))
    a = team.machine(named=named)
    for _ in range(5):
        a.commit(id := new_id(), written(a, id, BIRDS, NESTS))
        assert all(len(a._space.load(name).metadata.snapshots) <= 4 for name in ("birds", "nests"))
    assert len(paths(a, NESTS)) == len(paths(a, BIRDS)) == 5


def test_what_only_old_snapshots_need_is_deleted(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a table with many snapshots the old ones are forgotten, with the lists that no other needs; files stay. What readers may
    need yet stays, too."""
    a = team.machine(named=True)
    for n in range(5):
        if n == 3:  # a new list in the place of those before
            a.commit(new_id(), [], paths(a, NESTS)[:1])
        a.commit(id := new_id(), written(a, id, BIRDS, NESTS))
    space = a._space

    def snapshots() -> int:
        return len(space.load("birds").metadata.snapshots)

    for most, kept in ((6, 0), (5, 3600 * 10**9)):
        space.bound("birds", most, kept)
        assert snapshots() == 6
    with monkeypatch.context() as patch:  # another change comes first
        patch.setattr(space._catalog, "commit_table", refused_once(space._catalog))
        space.bound("birds", 5, 0)
    assert snapshots() == 1
    space.forget("birds", time.time_ns())
    space.forget("nests", time.time_ns() + DAY)
    for name in ("birds", "nests"):
        table = space.load(name)
        (snapshot,) = table.metadata.snapshots
        needed = {snapshot.manifest_list, *(one.manifest_path for one in snapshot.manifests(table.io))}
        lists = (team.root / "warehouse" / "runs" / name / "metadata").glob("*.avro")
        assert {path.name for path in lists} == {Path(one).name for one in needed}
    machine = team.machine("b", named=True)
    assert len(paths(machine, BIRDS)) == 5 and len(paths(machine, NESTS)) == 4


def test_a_table_has_a_name_that_all_catalogs_take(team: Team) -> None:
    """Lower case, of 128 characters at most; longer ones are told apart by a hash. A table is found again by it, so it stays."""
    named = team.machine(prepared=False)._space._identifier
    assert named("World Rows/ä") == ("runs", "world_rows__")
    assert named("x" * 128) == ("runs", "x" * 128)
    long = "x" * 127 + "Y" * 2
    assert named(long) == ("runs", f"{'x' * 95}_{content_hash(long)}")


@pytest.mark.parametrize("when", ["marked", "nests", "last"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_commit_that_somebody_undoes_meanwhile_is_whole_or_nothing(
    team: Team, monkeypatch: pytest.MonkeyPatch, when: str, killed: bool
) -> None:
    """A machine that sleeps for a week in the middle of a commit, which another one takes for abandoned, makes the commit whole. Where
    the other one is killed after it took out the files, the machine is refused; its files go once somebody else compacts."""
    a, b, id, real = team.machine(), team.machine("b"), new_id(), time.time_ns
    final, take_out = a._final, b._space.take_out

    def undone(weeks: int) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda: real() + weeks * 7 * DAY)
            assert b.expire(0) == []

    def later() -> None:
        b.refresh()
        assert [*b.pending()] == [id]
        with monkeypatch.context() as patch:
            if killed:
                patch.setattr(b._space, "take_out", lambda *given: (take_out(*given), dies()))
                with pytest.raises(Died):
                    undone(1)
                assert [*b.pending()] == [id]
            else:
                undone(1)
                assert b.pending() == {} and team.stored("birds") == set()
        assert team.live("nests") == set()

    def last(*given: Any) -> Any:
        monkeypatch.setattr(a, "_final", final)
        transaction = final(*given)
        later()
        return transaction

    monkeypatch.setattr(a, "_final", last if when == "last" else final)
    with (
        at(monkeypatch, when, later) if when != "last" else nullcontext(),
        pytest.raises(Conflict, match="nobody finished the commit for a week") if killed else nullcontext(),
    ):
        a.commit(id, written(a, id, BIRDS, NESTS))
    if killed:
        assert paths(a, NESTS) == paths(a, BIRDS) == []
        undone(1)  # another process may be at it
        assert [*b.pending()] == [id]
        undone(3)
        assert b.pending() == {} and team.live("nests") == team.stored("nests") == team.stored("birds") == set()
        a.commit(id, written(a, id, BIRDS, NESTS))
    assert paths(a, NESTS) == [f"nests/{id}.parquet"] and len(paths(a, BIRDS)) == 1 and a.pending() == {}
    assert a.orphans() == []


@pytest.mark.parametrize(
    ("stage", "named"), [("uploaded", False), ("uploaded", True), ("marked", False), ("nests", False), ("nests", True)]
)
def test_half_a_commit_is_seen_by_nobody(team: Team, monkeypatch: pytest.MonkeyPatch, stage: str, named: bool) -> None:
    """What a process that died brought is no live file, is under way where that needs a mark, and is made once under its id."""
    a, id, before = team.machine(named=named), new_id(), time.time_ns()
    a.commit(first := new_id(), written(a, first, BIRDS, NESTS))
    with pytest.raises(Died), at(monkeypatch, stage, dies):
        a.commit(id, written(a, id, BIRDS, NESTS))
    assert a.untouched(id) is False
    assert len(team.live("nests")) == 1 + (stage == "nests")
    for machine in (a, team.machine("b", named=named)):
        machine.refresh()
        assert paths(machine, NESTS) == [f"nests/{first}.parquet"]
        pending = machine.pending()
        assert [*pending] == ([] if named else [id])
        assert all(before < began <= time.time_ns() for began in pending.values())
    again = team.machine(named=named)
    again.commit(id, written(again, id, BIRDS, NESTS))
    assert sorted(paths(again, NESTS)) == sorted(f"nests/{one}.parquet" for one in (first, id))
    assert again.pending() == {} and again.orphans() == []


def test_what_was_taken_out_stays_for_readers_until_it_is_expired(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were taken out can be read until they are expired, also those that a process which died left in their table; then
    they are in no table and not in the storage. A commit whose snapshots are forgotten is still found, and not made again."""
    a, c = team.machine(), team.machine("c")
    ids = [f"journal/{new_id()}" for _ in range(3)]
    first, second, third = ([f"{table.name}/{id[8:]}.parquet" for table in (BIRDS, NESTS)] for id in ids)
    a.commit(ids[0], written(a, ids[0][8:], BIRDS, NESTS), properties={"n": 1})
    a.commit(ids[1], written(a, ids[1][8:], BIRDS, NESTS))
    between = time.time_ns()
    with pytest.raises(Died), at(monkeypatch, "truth", dies):
        a.commit(ids[2], written(a, ids[2][8:], BIRDS, NESTS), first)
    storage = team.root / "warehouse" / "runs"
    for path in third:
        (a.root / path).unlink()
    b = team.machine("b")
    assert len(team.live("nests")) == 3
    assert b.expire(between) == []
    seqs = [b.find(id).seq for id in ids]  # type: ignore[union-attr]
    assert [(one.seq, one.id) for one in b.commits()] == [(3, ids[2])]
    assert seqs == [3, 2, 3] and [b.find(id) for id in ids[:2]] == [Commit(3, ids[0], 0, {}), Commit(2, ids[1], 0, {})]
    assert b.find(new_id()) is None
    assert [b.commit(id, written(b, id[8:], BIRDS, NESTS), keys={"k": id}) for id in ids] == seqs and b.key("k") is None
    assert [paths(b, NESTS), paths(b, BIRDS)] == [[second[1], third[1]], [second[0], third[0]]]
    assert all(b.source(path).readall()[:4] == b"PAR1" for path in first)
    taken = b.find(ids[2]).time  # type: ignore[union-attr]
    assert taken <= time.time_ns() and taken // DAY == time.time_ns() // DAY
    assert c.expire(time.time_ns()) == first  # it looked long before
    assert team.live("nests") == {Path(path).name for path in (second[1], third[1])}
    assert sorted(path.name for path in storage.rglob("*.parquet")) == sorted(Path(path).name for path in (*second, *third))
    assert (b.expire(time.time_ns()), b.find(ids[0])) == ([], None)
    for path in first:
        with pytest.raises(DamagedFile, match="is gone"):
            b.source(path)
    assert [paths(b, NESTS), paths(b, BIRDS)] == [[second[1], third[1]], [second[0], third[0]]]


def test_questions_are_answered_as_of_the_last_look(team: Team) -> None:
    """What another machine commits is seen after the next look, and after the commits were closed."""
    a, b, c = team.machine(), team.machine("b"), team.machine("c", prepared=False)
    assert c.exists and c.last("birds") == 0 and c.commits() == []
    first, second = new_id(), new_id()
    b.commit(first, written(b, first, BIRDS), keys={"k": "1"})
    assert (c.last("birds"), c.key("k"), c.commits(), paths(c, BIRDS)) == (0, None, [], [])
    c.refresh()
    assert (c.last("birds"), c.key("k"), len(c.commits()), len(paths(c, BIRDS))) == (1, "1", 1, 1)
    b.commit(second, written(b, second, BIRDS), keys={"k": "2"})
    a.close()
    assert (a.last("birds"), a.key("k"), len(a.commits()), len(paths(a, BIRDS))) == (2, "2", 2, 2)
    assert c.key("k") == "1" and c.find(second).seq == 2 and c.key("k") == "2"  # type: ignore[union-attr]


def test_what_stays_beside_a_file_that_goes_is_no_news(team: Team) -> None:
    """A file keeps the number of its commit where the list that names it is written anew."""
    a, id = team.machine(), new_id()
    files = [*written(a, f"x-{id}", BIRDS), *written(a, id, BIRDS)]
    assert a.commit(id, files) == 1 and a.commit(new_id(), [], [files[0].path]) == 2
    assert [one.added for one in a.files("birds")] == [1]
    assert paths(a, BIRDS) == [files[1].path] and paths(a, BIRDS, 1) == []


def test_files_of_made_commits_are_as_of_the_last_look(team: Team) -> None:
    """Where files of the truth say what was made, the files of another table change with a look, also in tables that came later."""
    a, b, later = team.machine(named=True), team.machine("b", named=True), msgspec.structs.replace(NESTS, name="later")
    b.commit(first := new_id(), written(b, first, BIRDS, NESTS))
    a.refresh()
    assert len(paths(a, NESTS)) == 1 and paths(a, later) == []
    b.prepare([later])
    b.commit(second := new_id(), written(b, second, BIRDS, NESTS, later))
    assert len(paths(a, NESTS)) == 1 and paths(a, later) == []
    a.refresh()
    assert len(paths(a, NESTS)) == 2 and paths(a, later) == [f"later/{second}.parquet"]


def test_a_mark_that_could_not_be_set_is_set_before_files_come(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the catalog refuses the mark, as another change came first, nobody sees half of the commit either."""
    a, b, id = team.machine(), team.machine("b"), new_id()
    monkeypatch.setattr(a._space._catalog, "commit_table", refused_once(a._space._catalog))
    with at(monkeypatch, "nests", lambda: pytest.fail("half is seen") if b.files("nests") else None):
        a.commit(id, written(a, id, BIRDS, NESTS))
    assert paths(b, NESTS) == [f"nests/{id}.parquet"]


@pytest.mark.parametrize("table", [BIRDS, NESTS])
def test_a_commit_before_which_another_always_comes_is_told(team: Team, monkeypatch: pytest.MonkeyPatch, table: Table) -> None:
    """A change that the catalog refuses each time is given up in a sentence."""
    from pyiceberg.exceptions import CommitFailedException

    a, id = team.machine(named=True), new_id()
    catalog = a._space._catalog
    commit_table, tried = catalog.commit_table, []

    def refuses(of: Any, *given: Any) -> Any:
        if of.name()[-1] == table.name:
            tried.append(table)
            raise CommitFailedException("another change came first")
        return commit_table(of, *given)

    monkeypatch.setattr(catalog, "commit_table", refuses)
    monkeypatch.setattr(namespace, "_TRIES", 3)
    with pytest.raises(StoreError, match="is written by so many others that a commit could not be made; try again"):
        a.commit(id, written(a, id, BIRDS, NESTS))
    assert len(tried) == 3
    monkeypatch.undo()
    assert a.commit(id, written(a, id, BIRDS, NESTS)) == 1


@pytest.mark.parametrize("times", [1, 1000])
def test_a_list_is_as_of_one_time(team: Team, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Where others commit between the look at a table and the one at the truth, both are looked at again; where they do so each
    time, that is said."""
    a, b, left = team.machine(), team.machine("b"), [times]
    for _ in range(2):
        b.commit(id := new_id(), written(b, id, BIRDS, NESTS))
    catalog = a._space._catalog
    load = catalog.load_table

    def loads(name: Any) -> Any:
        found = load(name)
        if name[-1] == "nests" and left[0]:
            left[0] -= 1
            if times > 1:
                b.commit(new_id())
                return found
            old = paths(b, NESTS)[:1] + paths(b, BIRDS)[:1]
            b.commit(id := new_id(), written(b, id, BIRDS, NESTS), old)
        return found

    monkeypatch.setattr(catalog, "load_table", loads)
    if times == 1:
        assert paths(a, NESTS) == paths(b, NESTS) and len(paths(a, NESTS)) == 2
        return
    with pytest.raises(StoreError, match=r"other machines keep changing file:.* while this process reads it; try again"):
        a.files("nests")


@pytest.mark.parametrize("table", [BIRDS, NESTS])
def test_a_table_that_somebody_drops_is_told_and_made_anew(team: Team, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit says that a table is gone; the next time that the tables are prepared, it is made again."""
    a, id = team.machine(), new_id()
    catalog = a._space._catalog
    with (
        pytest.raises(StoreError, match=rf"has no table '{table.name}' any more: somebody dropped the table meanwhile"),
        at(monkeypatch, "uploaded", lambda: catalog.drop_table(f"runs.{table.name}")),
    ):
        a.commit(id, written(a, id, BIRDS, NESTS))
    assert paths(a, NESTS) == []
    with pytest.raises(StoreError, match=rf"^file://\S+ has no table '{table.name}'$"):
        a.source(f"{table.name}/gone.parquet")
    a.prepare()
    assert a.commit(id, written(a, id, BIRDS, NESTS)) == 1
    assert paths(a, NESTS) == [f"nests/{id}.parquet"]


def test_a_file_is_uploaded_where_it_is_not_whole(team: Team) -> None:
    """A file that is in the storage whole stays as it is, and is replaced where its length is another."""
    a, id = team.machine(), new_id()
    (file,) = written(a, id, NESTS)
    local, there = a.root / file.path, team.root / "warehouse" / "runs" / file.path
    assert a.source(file.path) == local
    a.upload(file, local)
    whole = local.read_bytes()
    assert there.read_bytes() == whole
    there.write_bytes(b"x" * file.bytes)
    a.upload(file, local)
    assert there.read_bytes() == b"x" * file.bytes
    there.write_bytes(whole[:-1])
    a.upload(file, local)
    assert there.read_bytes() == whole
    there.write_bytes(b"x" * file.bytes)
    assert a.commit(id, [file]) == 1
    assert not local.exists() and a.source(file.path).readall() == whole


@pytest.mark.parametrize("where", ["footer", "page"])
def test_engines_get_no_rows_of_a_changed_file(team: Team, where: str) -> None:
    """Before an engine reads files, their footers are compared, once; a page is compared when it is read."""
    a, id = team.machine(), new_id()
    a.commit(id, written(a, id, NESTS))
    (path,) = paths(a, NESTS)
    b = team.machine("b")
    assert b.dataset(NESTS, [path]).to_table().to_pylist() == [{"place": id}]
    there = team.root / "warehouse" / "runs" / path
    data = there.read_bytes()
    at = (
        data.index(b"place", len(data) - 8 - int.from_bytes(data[-8:-4], "little"))
        if where == "footer"
        else data.index(b"\x28\xb5\x2f\xfd")
    )
    there.write_bytes(data[:at] + b"X" + data[at + 1 :])
    if where == "footer":
        for ask in (lambda: a.dataset(NESTS, [path]), lambda: a.frame("nests", [path])):
            with pytest.raises(DamagedFile, match="its footer is not the one that was written"):
                ask()
        b.dataset(NESTS, [path])  # it was compared
    else:
        with pytest.raises(OSError, match="CRC checksum verification failed"):
            a.dataset(NESTS, [path]).to_table()
