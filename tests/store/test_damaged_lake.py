"""Whatever happens to the files of a sealed tier: what is whole is read, what is lost is said, and a repair mends what can be mended."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.cli import main
from odograph.codec import new_id
from odograph.store import mending
from odograph.store.lake import Lake
from odograph.types import Action

from .test_damage import status

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")
ROUNDS = int(os.environ.get("ODOGRAPH_DAMAGES", "200"))


class Made:
    """A store sealed twice, with a part in the journal: the first and the second trajectory have parts in two places."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.ids: list[str] = []
        with odograph.open(where) as store:
            self._run(store)
            self._run(store)
            store.seal()
            self._run(store)
            store.append(self.ids[0]).reward(2.0, "late")
            store.seal()
            self._run(store)
            store.append(self.ids[1]).reward(3.0, "late")
            store.count()
            self.before = [store.trajectory(id).to_dict() for id in self.ids]
            self.rewards = {s.id: s.reward for s in store.summaries()}
            self.facts = store.sql("select kind, count(*), sum(value) from facts group by 1 order by 1").list()
        lake = where / "lake"
        self.files = sorted([*lake.rglob("*.parquet"), lake / "commits.sqlite", where / "catalog.sqlite"])

    def _run(self, store: odograph.Store) -> None:
        with store.record(task={"q": len(self.ids)}, agent="a", model="m", group="g", tags=["x"]) as run:
            with run.step({"o": 1}) as step:
                call = step.llm_call(model="m", messages=[{"role": "user", "content": "hello"}], response="hi", token_ids=[4, 5])
                step.action("search", {"q": 1}, {"hits": 2}, llm_call=call)
            run.reward(1.0, "final")
        self.ids.append(run.id)

    def file(self, table: str, which: int) -> Path:
        """The `which`th file of a table, relative to the store."""
        return sorted((self.where / "lake" / table).glob("*.parquet"))[which].relative_to(self.where)

    def copied(self, to: Path) -> Path:
        shutil.rmtree(to, ignore_errors=True)
        return Path(shutil.copytree(self.where, to))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made") / "store")


def damage(path: Path, how: str, chance: random.Random) -> int:
    """Does something to a file; returns where."""
    data = path.read_bytes()
    at = chance.randrange(len(data)) if how != "tail" else max(0, len(data) - 1 - chance.randrange(9000))
    if how == "gone":
        path.unlink()
    elif how == "swap":
        other = chance.choice([p for p in path.parent.parent.rglob("*.parquet") if p != path])
        path.write_bytes(other.read_bytes())
        other.write_bytes(data)
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "pipe":
        path.unlink()
        os.mkfifo(path)
    else:
        changed = {
            "tail": data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :],
            "flip": data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :],
            "zero": data[:at] + bytes(min(64, len(data) - at)) + data[at + 64 :],
            "cut": data[:at],
            "empty": b"",
            "junk": chance.randbytes(len(data)),
        }
        path.write_bytes(changed[how])
    return at


def read(where: Path, ids: list[str]) -> tuple[list[Any], dict[str, Any]]:
    """What each trajectory is, asked for one by one, and all of them at once; an error in the place of what can't be read."""
    with odograph.open(where) as store:
        one: list[Any] = []
        for id in ids:
            try:
                one.append(store.trajectory(id).to_dict())
            except odograph.OdographError as error:
                one.append(error)
        try:
            return one, {t.id: t.to_dict() for t in store.trajectories()}
        except odograph.OdographError as error:
            return one, {"error": error}


COMMANDS = [
    ["ls"],
    ["sql", "select body from records order by id"],
    ["sql", "select * from trajectories, (select sum(value) from facts)"],
]
COMMANDS += [["search", "hello"], ["stats"], ["validate"], ["tail"], ["train", "--dry-run"], ["export", "--to", "jsonl"]]
COMMANDS += [["show", "{}"], ["show", "{}", "--json"], ["lineage", "{}"], ["sql", "select * from messages"], ["seal"]]


def check(made: Made, where: Path, path: Path, how: str, seed: int, commands: list[list[str]]) -> None:
    at = damage(where / path, how, random.Random(seed))
    place = (path.parent.name, path.name, how, at, seed)
    one, all = read(where, made.ids)
    found, said = status(["doctor"], where)
    assert "Traceback" not in said, (place, said)
    whole = [made.before[k] == one[k] and made.before[k] == all.get(id) for k, id in enumerate(made.ids)]
    assert found == 1 or (found == 0 and False not in whole), (place, "something is lost, and the doctor says nothing")
    with odograph.open(made.where) as store:
        parts = {k: {p.path for p in store.backend.reader.catalog.parts(id)} for k, id in enumerate(made.ids)}
    if path.suffix == ".parquet" and how != "swap":  # a damaged file costs what is in it, and nothing else
        for k in range(len(made.ids)):
            assert whole[k] or (f"records/{path.name}" in parts[k] and path.parent.name == "records"), (place, k, one[k])
    if path.parent.name == "facts" and how in ("gone", "cut", "empty", "junk", "folder", "pipe"):  # `records` say what facts are
        with odograph.open(where) as store:
            assert store.sql("select kind, count(*), sum(value) from facts group by 1 order by 1").list() == made.facts, place
    for command in commands:
        given = [word.format(made.ids[0]) for word in command]
        more = ["-o", str(where.with_name("out"))] if command[0] == "export" else []
        shutil.rmtree(where.with_name("out"), ignore_errors=True)
        found, said = status([*given, *more], where)
        assert found in (0, 1, 2) and (command[0] != "sql" or path.suffix != ".parquet" or found == 0), (place, command, said)
        assert "Traceback" not in said, (place, command, said)
    assert main(["--store", str(where), "doctor", "--repair", "--json"]) in (0, 1), place
    for command in (["seal"], ["doctor"]):
        found, said = status(command, where)
        assert "Traceback" not in said, (place, command, said)
    again, all = read(where, made.ids)
    for k, before in enumerate(made.before):
        assert again[k] == before or (not whole[k] and path.suffix == ".parquet"), (place, k, "repair lost it")
    there = {id: one for id, one in zip(made.ids, again, strict=True) if isinstance(one, dict)}
    assert there == all, (place, "all at once are not those that are there")
    with odograph.open(where) as store:
        assert (
            {s.id for s in store.summaries()} == {row["id"] for row in store.sql("select id from trajectories").list()} == {*all}
        )
    if path.parent.name != "records" and how != "swap":  # what other files say is made anew from the records
        assert again == made.before, place
        assert status(["doctor"], where)[0] == 0, place
        with odograph.open(where) as store:
            assert {s.id: s.reward for s in store.summaries()} == made.rewards, place
            assert store.sql("select kind, count(*), sum(value) from facts group by 1 order by 1").list() == made.facts, place


@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("records", "zero"),
        ("records", "gone"),
        ("facts", "junk"),
        ("facts", "gone"),
        ("facts", "pipe"),
        ("trajectories", "gone"),
        ("trajectories", "pipe"),
        ("trajectories", "zero"),
        ("commits.sqlite", "zero"),
    ],
)
def test_a_damaged_file_costs_itself(made: Made, tmp_path: Path, what: str, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged, cut or lost file of the sealed tier: everything that is in other files is read, SQL answers without what is lost,
    the doctor tells, and a repair makes anew what other files say; the next seal deletes nothing that is whole."""
    path = Path("lake") / what if "." in what else made.file(what, 0)
    check(made, made.copied(tmp_path / "s"), path, how, 0, COMMANDS[:3])
    assert what != "records" or path.name in caplog.text, "readers say which file is damaged"
    assert what != "records" or "what it held is left out" in caplog.text


@pytest.mark.parametrize("how", ["gone", "changed", "replaced", "exchanged"])
def test_a_file_that_is_put_back_is_read_again(made: Made, tmp_path: Path, how: str) -> None:
    """A process that found a file damaged, or that of another commit in its place, reads the file once it is whole again, whether its
    bytes are or another file has its name."""
    where = made.copied(tmp_path / "s")
    path, kept = where / made.file("records", 0), tmp_path / "kept"
    data = path.read_bytes()
    shutil.copy(path, kept)
    if how != "changed":
        path.unlink()
    if how == "exchanged":
        shutil.copy(where / made.file("records", 1), path)
    elif how != "gone":
        path.write_bytes(data[:20] + bytes(600) + data[620:])
    asked = "select count(*) as n from records"
    with odograph.open(where) as store:
        assert store.trajectory(made.ids[0]).to_dict() != made.before[0]
        less = store.sql(asked).list()
        if how == "changed":
            path.write_bytes(data)
        else:
            kept.rename(path)
        assert [store.trajectory(id).to_dict() for id in made.ids] == made.before
        assert store.sql(asked).list() != less


def test_a_correction_of_what_is_damaged_hides_nothing(made: Made, tmp_path: Path) -> None:
    """A list has all trajectories where a record is corrected whose trajectory stands in a damaged file."""
    where = made.copied(tmp_path / "s")
    damage(where / made.file("records", 0), "cut", random.Random(0))
    with odograph.open(where) as store:
        wrong = made.before[0]["steps"][0]["actions"][0]["id"]
        store.add([Action(trajectory=made.ids[0], id=new_id(), name="other", supersedes=wrong, time=1, seq=99)])
        assert [s.id for s in store.summaries()] == made.ids


@pytest.mark.parametrize(("table", "name"), [("records", b"body"), ("trajectories", b"reward"), ("facts", b"value")])
def test_a_changed_name_in_a_footer_is_no_empty_column(
    made: Made, tmp_path: Path, table: str, name: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A footer in which a byte of a column's name changed reads without the column, and no page's checksum covers the name: the file
    counts as damaged, a warning names it, and neither a list nor SQL has empty values in its place."""
    where = made.copied(tmp_path / "s")
    path = where / made.file(table, 0)
    data = path.read_bytes()
    at = data.index(bytes([len(name)]) + name, len(data) - 8 - int.from_bytes(data[-8:-4], "little")) + 1
    path.write_bytes(data[:at] + b"X" + data[at + 1 :])
    (where / "catalog.sqlite").unlink()
    one, _ = read(where, made.ids)
    if table == "records":
        assert path.name in caplog.text and "its footer" in caplog.text
    else:
        assert one == made.before
    assert status(["doctor"], where)[0] == 1
    with odograph.open(where) as store:
        assert table == "records" or {s.id: s.reward for s in store.summaries()} == made.rewards
        assert store.sql("select count(*) as n from records where body is null").list() == [{"n": 0}]
        assert store.sql("select kind, count(*), sum(value) from facts group by 1 order by 1").list() == made.facts


def test_sql_never_answers_from_a_changed_byte(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that change without breaking a file: SQL answers what was written, made anew from `records`, also in a process that read
    the file before it changed, and where the disk says that nothing did. Once the file is whole again, SQL reads the file."""
    where = made.copied(tmp_path / "s")
    path = where / made.file("facts", 0)
    data = path.read_bytes()
    asked = "select * exclude (replaced) from facts order by all"
    with odograph.open(where) as store:
        before = store.sql(asked).list()
        for at in range(20, 1800, 160):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            os.utime(path, ns=(at, at))
            assert store.sql(asked).list() == before, at
            with odograph.open(where) as other:
                assert other.sql(asked).list() == before, at
        store.close()
        assert store.sql(asked).list() == before  # what was found is not forgotten
        path.write_bytes(data)
        with monkeypatch.context() as patch:
            patch.setattr(mending, "facts", lambda *_: pytest.fail("made anew"))
            assert store.sql(asked).list() == before
        about, pages = path.stat(), len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        for rotten in (data[:4] + bytes(pages - 4) + data[pages:], data, data[:-4] + b"ROTS"):
            path.write_bytes(rotten)
            os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + (rotten is data)))  # as where a disk rots
            about = path.stat()
            store.close()
            assert store.sql(asked).list() == before


def test_nothing_is_committed_on_top_of_a_damaged_list(made: Made, tmp_path: Path) -> None:
    """A seal and a compaction read the list of the files: on top of a damaged one they would write down that a trajectory has
    less than it has. They refuse, with the command that repairs; then all is there."""
    where = made.copied(tmp_path / "s")
    path = where / "lake" / "commits.sqlite"
    data = path.read_bytes()
    assert data.count(b"records\x02records/") == 1  # in an index: SQL by other columns still finds the file
    path.write_bytes(data.replace(b"records\x02records/", b"vecords\x02records/"))
    for command in (["seal"], ["seal", "--compact"]):
        found, said = status(command, where)
        assert found == 1
        assert "commits.sqlite" in said and "odograph doctor --repair" in said
    with odograph.open(where) as store:
        assert [(d.file, d.offset) for d in store.damages()] == [("lake/commits.sqlite", 0)]
    assert status(["doctor", "--repair"], where)[0] == 0
    assert status(["seal", "--compact"], where)[0] == 0
    assert read(where, made.ids)[0] == made.before


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_damage_of_every_kind_in_every_file_and_command(made: Made, tmp_path: Path) -> None:
    """Bits turned, blocks of zeros, files cut, emptied, filled with junk, deleted, exchanged, in the place of a folder: no command
    fails without a sentence."""
    chance = random.Random(5)
    hows = ["flip", "flip", "tail", "tail", "zero", "cut", "empty", "junk", "gone", "swap", "folder"]
    for seed in range(ROUNDS):
        path = chance.choice(made.files).relative_to(made.where)
        check(made, made.copied(tmp_path / "s"), path, chance.choice(hows) if path.suffix == ".parquet" else chance.choice(hows[:8]), seed, COMMANDS)  # fmt: skip


def test_a_repair_adds_the_checksums_that_an_earlier_version_did_not_write(made: Made, tmp_path: Path) -> None:
    """A store that was sealed before there were checksums: after a repair a byte that changed between the pages is damage as in any
    other store."""
    where = made.copied(tmp_path / "s")
    path = made.file("facts", 0)
    with closing(sqlite3.connect(where / "lake" / "commits.sqlite")) as db:
        db.execute("update files set groups=json_remove(groups, '$.crc')")
        db.commit()
    data = (where / path).read_bytes()
    for repaired, found in ((False, 0), (True, 1)):
        if repaired:
            assert status(["doctor", "--repair"], where)[0] == 0
        (where / path).write_bytes(b"X" + data[1:])
        assert status(["doctor"], where)[0] == found
        with odograph.open(where) as store:
            assert [(d.file, d.offset) for d in store.damages()] == [(path.as_posix(), 0)] * found
        (where / path).write_bytes(data)


def test_a_page_that_no_query_can_read_is_left_out_without_a_checksum_too(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that was sealed before there were checksums: a query that meets a damaged page, and no other, reads the files through,
    and goes on without the one; the doctor tells."""
    where = made.copied(tmp_path / "s")
    path = where / made.file("facts", 0)
    with closing(sqlite3.connect(where / "lake" / "commits.sqlite")) as db:
        db.execute("update files set groups=json_remove(groups, '$.crc')")
        db.commit()
    asked = "select kind, count(*), sum(value) from facts group by 1 order by 1"
    with odograph.open(where) as store, monkeypatch.context() as patch:
        patch.setattr(Lake, "batches", lambda self, path, *_, **__: pytest.fail(f"{path} was read"))
        assert store.sql(asked).list() == made.facts
    data = path.read_bytes()
    pages = len(data) - 8 - int.from_bytes(data[-8:-4], "little")  # behind them stands what says where they are
    path.write_bytes(data[:4] + bytes(pages - 4) + data[pages:])
    assert status(["doctor"], where)[0] == 1
    with odograph.open(where) as store:
        assert store.sql(asked).list() == made.facts
