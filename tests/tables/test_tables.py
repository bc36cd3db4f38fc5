"""The tables of the lake: schemas, files, and the commits of a folder."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from odograph.codec import new_id
from odograph.errors import MissingExtra, NewerStore, StoreError
from odograph.tables.commits import Conflict
from odograph.tables.files import FOOTER, DamagedFile, DataFile, Footer, Opened, Writer, footer_of
from odograph.tables.folder import FolderCommits
from odograph.tables.rebuilding import rebuild
from odograph.tables.schema import Column, Table

BIRDS = Table(
    "birds",
    "A row per bird that was seen.",
    (
        (
            Column("name", "text", "The bird's name.", "names"),
            Column("seen", "time", "When it was seen."),
            Column("ids", "ids", "Token ids."),
            Column("weights", "floats", "Grams.", "split"),
            Column("count", "int", "How many there were."),
            Column("tags", "texts", "Tags.", "names"),
        ),
    ),
)
ROWS: list[dict[str, Any]] = [
    {"name": "wren", "seen": None, "ids": [1, 2], "weights": [0.5, 1.0], "count": 3, "tags": ["small"]},
    {"name": "wren", "seen": None, "ids": None, "weights": [], "count": None, "tags": None},
    {"name": "rook", "seen": None, "ids": [], "weights": None, "count": 2**62, "tags": []},
]


def read(path: Path, table: Table, columns: Any = None, groups: Any = None) -> Any:
    with Opened(path, table) as file:
        return file.read(columns, groups)


def table_of(path: Path) -> str:
    return path.parent.name


def written(root: Path, commits: FolderCommits | None = None, id: str = "", rows: list[dict[str, Any]] = ROWS) -> str:
    id = id or new_id()
    path = f"birds/{id}.parquet"
    writer = Writer(root, path, BIRDS, Footer(id))
    writer.write(rows)
    file = writer.close(Footer(id, (path,), (), {"what": "a test"}))
    if commits is not None:
        commits.commit(id, [file], properties={"what": "a test"})
    return path


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    """What is written into a table is read back: nulls, empty lists and large numbers too, by column and by row group."""
    root = tmp_path / "new" / "lake"
    writer = Writer(root, "birds/a.parquet", BIRDS, Footer("c"))
    writer.write(ROWS)
    writer.write([])
    writer.write(ROWS[:1])
    file = writer.close()
    assert (file.rows, file.groups) == (4, (3, 1))
    assert _file(root, file.path) == file
    assert file.crc == zlib.crc32((root / file.path).read_bytes())
    assert read(root / file.path, BIRDS).to_pylist() == [*ROWS, ROWS[0]]
    assert read(root / file.path, BIRDS, ["count", "name"], [1]).to_pylist() == [{"count": 3, "name": "wren"}]


def test_every_file_documents_its_columns(tmp_path: Path) -> None:
    """Somebody who never heard of us opens a file with pyarrow and reads what each column means."""
    import pyarrow.parquet as parquet

    schema = parquet.read_schema(tmp_path / written(tmp_path))
    assert schema.field("count").metadata[b"doc"] == b"How many there were."
    assert schema.metadata[b"doc"] == b"A row per bird that was seen."


def test_field_ids_are_those_of_iceberg() -> None:
    """Our field ids are those that Iceberg gives to the same table, lists' elements included, so that it can take our files."""
    pytest.importorskip("pyiceberg")
    from pyiceberg.io.pyarrow import pyarrow_to_schema, schema_to_pyarrow
    from pyiceberg.schema import assign_fresh_schema_ids

    def ids(schema: Any) -> dict[str, bytes]:
        found = {f.name: f.metadata[b"PARQUET:field_id"] for f in schema}
        lists = [f for f in schema if hasattr(f.type, "value_field")]
        return found | {f"{f.name}.element": f.type.value_field.metadata[b"PARQUET:field_id"] for f in lists}

    fresh = assign_fresh_schema_ids(pyarrow_to_schema(BIRDS.arrow))
    assert ids(BIRDS.arrow) == ids(schema_to_pyarrow(fresh, include_field_ids=True))


def test_a_column_that_came_later_reads_as_null_in_older_files(tmp_path: Path) -> None:
    """A table grows columns; files of before keep their field ids and read with nulls. A later table's file is refused by an older one."""
    grown = BIRDS.with_columns(Column("ring", "text", "The number of the ring."), Column("calls", "texts", "What it sang."))
    assert {k: v for k, v in grown.field_ids.items() if k in BIRDS.field_ids} == BIRDS.field_ids
    assert len(set(grown.field_ids.values())) == len(grown.field_ids)
    old = tmp_path / written(tmp_path)
    assert read(old, grown).to_pylist() == [{**row, "ring": None, "calls": None} for row in ROWS]
    writer = Writer(tmp_path, "birds/new.parquet", grown, Footer("c"))
    writer.write([{**ROWS[0], "ring": "7", "calls": []}])
    writer.close()
    with pytest.raises(NewerStore, match="version 2 of table 'birds'"):
        read(tmp_path / "birds/new.parquet", BIRDS)


NESTS = Table(
    "nests",
    "A row per nest.",
    (
        (
            Column("id", "text", "Which nest.", "alike"),
            Column("bird", "text", "Whose.", "names"),
            Column("found", "int", "When.", "delta"),
            Column("place", "text", "Where.", "delta"),
            Column("ids", "ids", "Token ids."),
            Column("weights", "floats", "Grams.", "split"),
        ),
    ),
)


@pytest.mark.parametrize(
    ("how", "dictionaries", "statistics", "index"),
    [
        ({}, {"bird"}, {"id", "bird", "found", "place", "ids", "weights"}, True),
        ({"small": True}, {"bird"}, {"id"}, False),
        ({"lean": 255}, set(), set(), False),
        ({"lean": 256}, {"bird"}, set(), False),
    ],
)
def test_columns_are_stored_as_their_table_says(
    tmp_path: Path, how: dict[str, Any], dictionaries: set[str], statistics: set[str], index: bool
) -> None:
    """Every column is compressed; only names have dictionaries, and numbers, texts and floats the encodings of their columns. A small
    file has no index, and statistics of ids alone; a lean one has none, and no schema of Arrow's."""
    import pyarrow.parquet as parquet

    writer = Writer(tmp_path, "nests/a.parquet", NESTS, Footer("c"), **how)
    writer.write([{"id": "a", "bird": "wren", "found": 7, "place": "hedge", "ids": [1], "weights": [0.5]}] * 3)
    about = parquet.read_metadata(tmp_path / writer.close().path)
    assert (b"ARROW:schema" in about.metadata) == ("lean" not in how)
    columns = {name: about.row_group(0).column(n) for n, name in enumerate(NESTS.names)}
    assert {one.compression for one in columns.values()} == {"ZSTD"}
    assert {name for name, one in columns.items() if one.has_dictionary_page} == dictionaries
    assert {name for name, one in columns.items() if one.is_stats_set} == statistics
    assert {one.has_column_index for one in columns.values()} == {index}
    for name, encoding in (("found", "DELTA_BINARY_PACKED"), ("place", "DELTA_BYTE_ARRAY"), ("weights", "BYTE_STREAM_SPLIT")):
        assert encoding in columns[name].encodings
    assert "PLAIN" in columns["ids"].encodings


def test_texts_that_are_alike_are_compressed_harder(tmp_path: Path) -> None:
    """The same texts take less in a column that says that they are alike."""
    import pyarrow.parquet as parquet

    columns = (Column("alike", "text", "", "alike"), Column("plain", "text", ""))
    writer = Writer(tmp_path, "a.parquet", Table("ids", "", (columns,)), Footer("c"))
    ids = [new_id() for _ in range(2000)]
    writer.write([{"alike": id, "plain": id} for id in ids])
    about = parquet.read_metadata(tmp_path / writer.close().path).row_group(0)
    assert about.column(0).total_compressed_size < about.column(1).total_compressed_size


def test_a_column_has_one_name_and_one_type() -> None:
    """A table gets no second column of a name, and a file's type that no column can have is told."""
    import pyarrow as pa

    with pytest.raises(ValueError, match="table 'birds' has a column 'count' already"):
        BIRDS.with_columns(Column("count", "int", "Once more."))
    about = {b"odograph.table": b"birds"}
    with pytest.raises(ValueError, match="no column has the Arrow type int8"):
        Table.of_arrow(pa.schema([pa.field("age", pa.int8())], metadata=about))


def test_a_file_describes_its_table(tmp_path: Path) -> None:
    """Who knows no table reads it from a file: names, types, documentation and encodings, also as an earlier version put them."""
    import pyarrow as pa

    with Opened(tmp_path / written(tmp_path), None) as file:
        assert file.table == BIRDS
    about = {b"doc": b"What it is.", b"odograph.encoding": b"names"}
    old = pa.schema(
        [pa.field("kind", pa.string(), metadata=about), pa.field("age", pa.int64())], metadata={b"odograph.table": b"old"}
    )
    columns = (Column("kind", "text", "What it is.", "names"), Column("age", "int", ""))
    assert Table.of_arrow(old) == Table("old", "", (columns,))


def test_files_need_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pyarrow is not installed, a sentence names the extra."""
    path = tmp_path / written(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for work in (lambda: written(tmp_path), lambda: Opened(path, BIRDS), lambda: footer_of(path)):
        with pytest.raises(MissingExtra, match=r"odograph\[lake\]"):
            work()


def test_an_id_commits_once(tmp_path: Path) -> None:
    """A commit that is tried again after a crash adds nothing: the id decides."""
    commits = FolderCommits(tmp_path)
    path = written(tmp_path, commits, id="one")
    file = commits.files("birds")[0].file
    assert commits.commit("one", [file]) == 1
    assert commits.commit("two") == 2
    assert (commits.untouched("two"), commits.untouched("three")) == (False, True)
    assert [f.file.path for f in commits.files("birds")] == [path]
    assert commits.find("one").properties == {"what": "a test"}  # type: ignore[union-attr]
    assert [commits.find("one"), commits.find("two")] == commits.commits()
    assert 0 <= time.time_ns() - commits.commits()[0].time < 3600 * 10**9
    assert commits.pending() == {}
    commits.settle()
    assert (tmp_path / "commits.sqlite").stat().st_size < 10_000
    alone = FolderCommits(tmp_path / "alone")
    alone.root.mkdir()
    shutil.copy(tmp_path / "commits.sqlite", alone.root)
    assert (alone.id, alone.commits()) == (commits.id, commits.commits())


def test_readers_ask_for_what_is_new(tmp_path: Path) -> None:
    """A reader that knows a commit is told what came and what went since."""
    commits, reader = FolderCommits(tmp_path), FolderCommits(tmp_path)
    first = written(tmp_path, commits)
    seq = reader.last("birds")
    second = written(tmp_path, commits)
    merged = written(tmp_path, rows=ROWS + ROWS)
    commits.commit("merge", [_file(tmp_path, merged)], [first, second])
    assert [f.file.path for f in reader.files("birds", seq)] == [merged]
    assert reader.orphans() == []
    assert (tmp_path / first).exists()  # readers of other processes may be reading it
    assert sorted(commits.expire(2**62)) == sorted([first, second])
    assert not (tmp_path / first).exists()
    assert commits.expire(2**62) == []


def test_a_file_is_taken_out_once(tmp_path: Path) -> None:
    """Two processes that merge the same files: the second is told so, and its commit changes nothing."""
    commits = FolderCommits(tmp_path)
    path = written(tmp_path, commits)
    commits.commit("a", remove=[path])
    with pytest.raises(Conflict, match="no live file"):
        commits.commit("b", [_file(tmp_path, written(tmp_path))], [path])
    assert commits.find("b") is None
    assert not commits.files("birds")


def test_keys_let_one_writer_in(tmp_path: Path) -> None:
    """A key is set if it has the value that was expected: of two writers one is refused, and nothing of its commit is there."""
    one, two = FolderCommits(tmp_path), FolderCommits(tmp_path)
    one.commit("a", keys={"writer": "1"}, expect={"writer": None})
    two.commit("b", keys={"writer": "2"}, expect={"writer": "1"})
    with pytest.raises(Conflict, match="writer is '2', not '1'"):
        one.commit("c", [_file(tmp_path, written(tmp_path))], expect={"writer": "1"})
    assert one.key("writer") == "2"
    assert not one.files("birds")


def test_the_latest_files_come_first(tmp_path: Path) -> None:
    """The live files of a folder that sort before a name are named, the last first, however many there are."""
    commits = FolderCommits(tmp_path)
    names = [f"birds/{n:03d}" for n in range(130)]
    commits.commit("a", [DataFile(path.split("/")[0], path, 1, 1) for path in [*names, "nests/1"]])
    commits.commit("b", remove=[names[7]])
    expected = [path for path in reversed(names[:129]) if path != names[7]]
    assert [live.file.path for live in commits.latest("birds", "129")] == expected
    assert commits.tables() == ["birds", "nests"] and commits.tables("n") == ["nests"]


def test_a_list_that_is_made_anew_is_read(tmp_path: Path) -> None:
    """Who has a list open that another process makes anew is told while it is gone, and reads the new one then."""
    commits, other = FolderCommits(tmp_path), FolderCommits(tmp_path)
    path = written(tmp_path, commits)
    before = commits.id
    commits.settle()
    (tmp_path / "commits.sqlite").rename(tmp_path / "away")
    for work in (lambda: commits.commits(), lambda: commits.commit("c")):
        with pytest.raises(StoreError, match="is gone: somebody deleted the open file"):
            work()
    (tmp_path / "away").rename(tmp_path / "commits.sqlite")
    assert rebuild(other, table_of) == {"commits": 1, "files": 1, "left": 0}
    assert commits.id == other.id != before
    assert [one.file.path for one in commits.files("birds")] == [path]


def test_a_commit_into_a_list_that_is_replaced_meanwhile_is_none(tmp_path: Path) -> None:
    """Where another list takes the place of the one that a commit is written to, the commit says so: nobody will read it."""
    commits = FolderCommits(tmp_path)
    path = written(tmp_path, commits)
    commits.settle()
    shutil.copy(tmp_path / "commits.sqlite", tmp_path / "backup")

    def put_back() -> None:
        for end in ("-wal", "-shm"):
            (tmp_path / f"commits.sqlite{end}").unlink()
        (tmp_path / "backup").rename(tmp_path / "commits.sqlite")

    with pytest.raises(StoreError, match="was replaced while a commit was made; nothing is lost: do the same again"):
        commits.commit("c", keys={"k": "1"}, check=put_back)
    assert commits.untouched("c") and [one.file.path for one in commits.files("birds")] == [path]
    commits.commit("c", keys={"k": "1"})
    assert FolderCommits(tmp_path).key("k") == "1"


def test_a_lake_can_be_moved(tmp_path: Path) -> None:
    """A folder that was moved reads the same: no path in it is absolute."""
    written(tmp_path / "a", FolderCommits(tmp_path / "a"))
    shutil.move(tmp_path / "a", tmp_path / "b")
    commits = FolderCommits(tmp_path / "b")
    assert read(tmp_path / "b" / commits.files("birds")[0].file.path, BIRDS).num_rows == 3


@pytest.mark.parametrize("damage", ["lost", "rubbish"])
def test_commits_are_rebuilt_from_the_footers(tmp_path: Path, damage: str) -> None:
    """`commits.sqlite` can be lost: the footers say which files are live, which were merged, and which commit was never complete."""
    commits = FolderCommits(tmp_path)
    kept, merged_away = written(tmp_path, commits), written(tmp_path, commits)
    id = new_id()
    writer = Writer(tmp_path, f"birds/{id}.parquet", BIRDS, Footer(id))
    writer.write(ROWS)
    merged = writer.close(Footer(id, (f"birds/{id}.parquet",), (merged_away,), {"keys": {"writer": "7"}}))
    commits.commit(id, [merged], [merged_away], properties={"keys": {"writer": "7"}}, keys={"writer": "7"})
    half = new_id()
    writer = Writer(tmp_path, f"birds/{half}.parquet", BIRDS, Footer(half))
    writer.write(ROWS)
    writer.close()  # killed before the last file of this commit
    before = [f.file for f in commits.files("birds")]
    commits.close()
    if damage == "lost":
        (tmp_path / "commits.sqlite").unlink()
    else:
        (tmp_path / "commits.sqlite").write_bytes(b"rubbish" * 1000)
        with pytest.raises(StoreError, match="doctor --repair"):
            FolderCommits(tmp_path).files("birds")
    again = FolderCommits(tmp_path)
    assert rebuild(again, table_of) == {"commits": 3, "files": 2, "left": 1}
    assert [f.file for f in again.files("birds")] == before
    assert {f.file.path for f in again.files("birds")} == {kept, merged.path}
    assert again.key("writer") == "7"
    assert rebuild(again, table_of) == {"commits": 3, "files": 2, "left": 1}  # also by who has the list open


def foreign(path: Path) -> None:
    """A file of another program."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    parquet.write_table(pa.table({"a": [1]}), path)


def test_files_of_a_commit_that_are_lost_stay_in_a_rebuilt_list(tmp_path: Path) -> None:
    """Where nothing else holds what a lost file held, its commit was made: the list names the file, so that readers tell of it.
    Files of other programs, and files that can't be read and belong to no commit, are left."""
    id = new_id()
    paths = [f"birds/{id[:-1]}{n}.parquet" for n in range(2)]
    for path in paths:
        writer = Writer(tmp_path, path, BIRDS, Footer(id))
        writer.write(ROWS)
        writer.close(Footer(id, tuple(paths)) if path == paths[1] else None)
    for path in (tmp_path / paths[0], tmp_path / written(tmp_path)):
        path.write_bytes(path.read_bytes()[:-7])
    foreign(tmp_path / "birds/foreign.parquet")
    commits = FolderCommits(tmp_path)
    assert rebuild(commits, table_of, lambda footer: False) == {"commits": 1, "files": 2, "left": 2}
    assert [(f.file.path, f.file.rows, f.file.bytes > 0) for f in commits.files("birds")] == [
        (paths[0], 0, False),
        (paths[1], 3, True),
    ]
    assert rebuild(commits, table_of) == {"commits": 0, "files": 0, "left": 4}


def test_a_lake_is_told_from_another(tmp_path: Path) -> None:
    """A lake has an id of its own, which stays; where nothing was committed, or a full disk left an empty file, there is none."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/commits.sqlite").touch()
    a, b = FolderCommits(tmp_path / "a"), FolderCommits(tmp_path / "b")
    for one in (a, b):
        assert (one.exists, one.id, one.last("birds")) == (False, "", 0)
        one.commit("first")
    assert "" != a.id != b.id != ""
    assert FolderCommits(tmp_path / "a").id == a.id


@pytest.mark.parametrize("how", ["of another program", "empty", "a loop of links", "a row that says nothing", "no table"])
def test_a_list_that_is_none_is_refused(tmp_path: Path, how: str) -> None:
    """What is no list of the files is not taken for a list without files, and stays as it is."""
    path = tmp_path / "commits.sqlite"
    commits = FolderCommits(tmp_path)
    written(tmp_path, commits)
    commits.close()
    if how == "a loop of links":
        path.unlink()
        path.symlink_to(path.name)
        with pytest.raises(StoreError, match=r"commits.sqlite can't be read"):
            FolderCommits(tmp_path).files("birds")
        return
    with closing(sqlite3.connect(path)) as db, db:
        if how == "a row that says nothing":
            db.execute("update files set groups='x'")
        else:
            for (table,) in db.execute("select name from sqlite_master where type='table'").fetchall():
                db.execute(f"drop table {table}")
            if how != "no table":
                db.execute("pragma user_version=0")
            if how == "of another program":
                db.execute("create table birds(name)")
    before = path.read_bytes()
    said = {"of another program": "it is the database of another program", "empty": "it lists no files, but there are files"}
    with pytest.raises(StoreError, match=f"commits.sqlite is damaged.*{said.get(how, '')}.*doctor --repair"):
        FolderCommits(tmp_path).files("birds")
    assert path.read_bytes() == before


def test_a_page_of_the_list_that_is_damaged_is_told(tmp_path: Path) -> None:
    """Damage that shows when a question reads it is one sentence, and a look at the whole list finds the damage."""
    commits = FolderCommits(tmp_path)
    written(tmp_path, commits)
    commits.close()
    path = tmp_path / "commits.sqlite"
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("select rootpage from sqlite_master where name='commits'").fetchone()
        (size,) = db.execute("pragma page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"x" * size)
    assert len(commits.files("birds")) == 1
    with pytest.raises(StoreError, match=r"can't be read: database disk image is malformed; .*doctor --repair"):
        commits.commits()
    assert str(commits.wrong("")).startswith("it is damaged: ")


def test_a_list_that_lost_a_file_of_its_commits_is_damaged(tmp_path: Path) -> None:
    """A list that names a file that is gone, and not one that is there, is damaged where the commit of that one is in the list; a
    file of a commit that was never made is none of it."""
    commits = FolderCommits(tmp_path)
    (tmp_path / written(tmp_path, commits)).unlink()
    written(tmp_path)
    shutil.copy(tmp_path / written(tmp_path, commits), tmp_path / "birds/.begun.parquet")
    foreign(tmp_path / "birds/foreign.parquet")
    assert commits.wrong("") is None
    path = written(tmp_path, commits)
    commits.close()
    with closing(sqlite3.connect(tmp_path / "commits.sqlite")) as db, db:
        db.execute("delete from files where path=?", (path,))
    assert "does not list a file of one of its commits" in str(commits.wrong(""))


def ran(program: str, *arguments: Any, before: list[str] | None = None) -> str:
    """What a program prints; it may fail in nothing."""
    code = "import os, resource, sys\nfrom pathlib import Path\nfrom odograph.tables.folder import FolderCommits\n"
    code += "from odograph.errors import StoreError\n" + textwrap.dedent(program)
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*(before or []), sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **path}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_list_that_may_only_be_read_is_read(tmp_path: Path) -> None:
    """Where nothing can be written, not even beside the list, each question sees what was committed by then, also after a commit
    that was refused. What is not in the list alone is not left out: then the list can't be opened."""
    tool = []
    if os.geteuid() == 0:
        less = shutil.which("setpriv") or pytest.skip("setpriv is not installed")
        tool = [less, "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    program = """
        root = Path(sys.argv[1])
        beside = root / "commits.sqlite-wal"

        def may_write(yes):
            for path in root.iterdir():
                path.chmod(0o644 if yes else 0o444)
            root.chmod(0o755 if yes else 0o555)

        def tried(work):
            try:
                work()
            except StoreError as error:
                return "opened" if "can't be opened" in str(error) else "written" if "can't be written: " in str(error) else error

        def added(names):
            may_write(True)
            for name in names:
                writer.commit(name, keys={name: "x" * 100}, properties={"keys": {name: "x" * 100}})
            writer.close()
            may_write(False)

        writer, reader = FolderCommits(root), FolderCommits(root)
        added("a")
        for number in range(3):
            print(len(reader.keys("")), len(reader.commits()), reader.wrong(""), tried(reader.prepare))
            print(tried(lambda: reader.commit("x")))
            added(f"{number} {n}" for n in range(100))
        may_write(True)
        beside.touch()
        may_write(False)
        print(len(reader.keys("")))
        may_write(True)
        beside.write_bytes(b"what was committed last")
        may_write(False)
        print(tried(lambda: reader.keys("")))
        may_write(True)
    """
    lines = [f"{1 + 100 * n} {1 + 100 * n} None None\nwritten\n" for n in range(3)]
    assert ran(program, tmp_path, before=tool) == "".join(lines) + "301\nopened\n"


def test_a_list_on_a_full_disk_is_gone_on_with(tmp_path: Path) -> None:
    """A list that could not be made leaves no file. What could not be written is told as what the machine refuses, and the same
    process goes on once there is room."""
    program = """
        def limit(bytes):
            resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, resource.RLIM_INFINITY))

        def tried(work):
            try:
                work()
            except StoreError as error:
                print([word for word in ("opened", "written", "read", "doctor") if word in str(error)])

        root = Path(sys.argv[1])
        commits = FolderCommits(root)
        limit(4096)
        tried(lambda: commits.commit("a"))
        print(os.listdir(root))
        limit(resource.RLIM_INFINITY)
        commits.commit("a", keys={"a": "x" * 5000})
        limit(8192)
        tried(commits.settle)
        tried(lambda: commits.commit("b", keys={"b": "x" * 50_000}))
        limit(resource.RLIM_INFINITY)
        commits.commit("c")
        commits.settle()
        print([commit.id for commit in commits.commits()])
    """
    assert ran(program, tmp_path) == "['opened']\n[]\n['read']\n['written']\n['a', 'c']\n"


def test_a_disk_that_is_full_while_a_file_is_written_leaves_no_file(tmp_path: Path) -> None:
    """The footer of a file, a row group, or its first byte does not fit any more: one sentence, and nothing is left of the file."""
    program = """
        from odograph.tables.files import Footer, Writer
        from odograph.tables.schema import Column, Table

        root = Path(sys.argv[1])
        table = Table("birds", "", ((Column("name", "text", ""),),))
        first, second = (Writer(root, f"{name}/a.parquet", table, Footer("c")) for name in "ab")
        first.write([{"name": "wren"}])
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        for name, work in (("a", first.close), ("b", lambda: second.write([{"name": os.urandom(5000).hex()}]))):
            try:
                work()
            except StoreError as error:
                print("can't be written" in str(error), os.listdir(root / name))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 200))
        try:
            Writer(root, "c/a.parquet", table, Footer("c"))
        except StoreError as error:
            print("can't be written" in str(error), os.listdir(root / "c"))
    """
    assert ran(program, tmp_path) == "True []\n" * 3


def test_a_commit_that_fails_changes_nothing(tmp_path: Path) -> None:
    """A commit whose file is in the list already, or whose check refuses it, is refused as a whole; the next commit is made."""
    commits = FolderCommits(tmp_path)
    written(tmp_path, commits)
    file = commits.files("birds")[0].file
    with pytest.raises(StoreError, match="can't be written"):
        commits.commit("b", [file], keys={"b": "1"})

    def check() -> None:
        raise Conflict("somebody was here first")

    with pytest.raises(Conflict, match="somebody was here first"):
        commits.commit("b", keys={"b": "1"}, check=check)
    assert (commits.commit("c"), commits.find("b"), commits.key("b")) == (2, None, None)


def test_a_file_that_was_taken_out_and_could_not_be_deleted_is_no_damage(tmp_path: Path) -> None:
    """Where each file of the list is there, a file of a commit that is in no list is one that was taken out."""
    commits = FolderCommits(tmp_path)
    written(tmp_path, commits)
    path = written(tmp_path, commits)
    shutil.copy(tmp_path / path, tmp_path / "kept")
    commits.commit("taken out", remove=[path])
    assert commits.expire(2**62) == [path]
    shutil.copy(tmp_path / "kept", tmp_path / path)
    assert commits.wrong("") is None


def test_a_commit_while_the_list_is_looked_at_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process commits between two questions of one look is in none of their answers."""
    commits, other = FolderCommits(tmp_path), FolderCommits(tmp_path)
    commits.commit("a", keys={"a": "1"}, properties={"keys": {"a": "1"}})
    asked = commits.commits

    def meanwhile() -> Any:
        found = asked()
        other.commit("b", keys={"a": "2"}, properties={"keys": {"a": "2"}})
        return found

    monkeypatch.setattr(commits, "commits", meanwhile)
    assert commits.wrong("") is None
    assert commits.key("a") == "2"


def test_a_byte_that_changed_gives_no_other_rows(tmp_path: Path) -> None:
    """Whichever byte of a file's pages changes: the rows are told to be unreadable, as a whole and in batches, or they are the same."""
    table = Table("ages", "", ((Column("age", "int", ""),),))
    writer = Writer(tmp_path, "a.parquet", table, Footer("c"))
    writer.write([{"age": n * 1_000_003**3 % 2**62} for n in range(40)])
    path = tmp_path / writer.close().path
    data = path.read_bytes()
    rows = read(path, table)
    told = 0
    for at in range(4, len(data) - 8 - int.from_bytes(data[-8:-4], "little"), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        for work in (lambda file: [file.read()], lambda file: file.batches(["age"], 10, 0)):
            with Opened(path, table) as file:
                try:
                    assert [row for some in work(file) for row in some.to_pylist()] == rows.to_pylist()
                except DamagedFile as error:
                    assert str(error).startswith(f"{path} can't be read: ")
                    told += 1
    assert told > 40


def test_what_a_storage_refuses_is_no_damage(tmp_path: Path) -> None:
    """Of a file that is none of this machine a wrong checksum is damage; what the storage raises is told as the storage's."""
    table = Table("ages", "", ((Column("age", "int", ""),),))
    writer = Writer(tmp_path, "a.parquet", table, Footer("c"))
    writer.write([{"age": n * 1_000_003**3 % 2**62} for n in range(40)])
    path = tmp_path / writer.close().path

    class Storage(io.BytesIO):
        away = False

        def read(self, size: int | None = -1, /) -> bytes:
            if self.away:
                raise OSError("the storage is away")
            return super().read(size)

    data = path.read_bytes()
    at = len(data) // 4
    storage = Storage(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with Opened(Path("there"), table, source=storage) as file, pytest.raises(DamagedFile, match="page integrity"):
        file.read()
    storage = Storage(data)
    with Opened(Path("there"), table, source=storage) as file:
        storage.away = True
        with pytest.raises(StoreError, match=r"there can't be read: the storage is away; nothing .* is lost") as error:
            file.read()
        assert not isinstance(error.value, DamagedFile)


def test_a_process_that_may_open_no_more_files_finds_no_damage(tmp_path: Path) -> None:
    """What the machine refuses is told as that. Files that were written leave nothing open."""
    path = tmp_path / written(tmp_path)
    program = """
        from odograph.tables.files import DamagedFile, Footer, Opened, Writer

        with Opened(Path(sys.argv[1]), None) as file:
            table = file.table
        left = set()
        for n in range(3):
            Writer(Path(sys.argv[1]).parent, f"birds/{n}.parquet", table, Footer("c")).close()
            left.add(len(os.listdir("/dev/fd")))
        print(len(left))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        try:
            Opened(Path(sys.argv[1]), None)
        except StoreError as error:
            print(isinstance(error, DamagedFile), "do the same again" in str(error))
    """
    assert ran(program, path) == "1\nFalse True\n"


def test_a_folder_that_another_process_makes_meanwhile_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes that write the first files of a table, the second finds the folder made."""

    def late(path: Path, real: Any = Path.exists) -> Any:
        monkeypatch.undo()
        found = real(path)
        path.mkdir()
        return found

    monkeypatch.setattr(Path, "exists", late)
    assert read(tmp_path / written(tmp_path), BIRDS).num_rows == 3


def test_what_statistics_say_is_known_without_reading(tmp_path: Path) -> None:
    """The one value of a column, where all rows have it, and the bounds of a row group: never of what statistics do not say whole."""
    import pyarrow.parquet as parquet

    kinds: dict[str, Any] = {
        "one": "text",
        "two": "text",
        "none": "int",
        "some": "int",
        "late": "int",
        "float": "double",
        "list": "ids",
    }
    table = Table("t", "", (tuple(Column(name, kind, "") for name, kind in kinds.items()),))
    writer = Writer(tmp_path, "a.parquet", table, Footer("of this commit"))
    row: dict[str, Any] = {"one": "x", "two": "a", "none": None, "some": 1, "late": None, "float": 0.5, "list": [1]}
    writer.write([row, row])
    writer.write([{**row, "two": "b", "late": 1}, {**row, "two": "c", "some": None, "late": 1}])
    path = tmp_path / writer.close().path
    with Opened(path, table.with_columns(Column("later", "text", ""))) as file:
        assert {name: file.same(name) for name in [*kinds, "later"]} == {
            **dict.fromkeys(kinds, None), "one": ("x",), "none": (None,), "later": (None,)
        }  # fmt: skip
        assert [file.bounds(1, name) for name in ("two", "none", "later")] == [("b", "c"), None, None]
        assert (file.commit, "one" in file, "later" in file) == ("of this commit", True, False)
    with pytest.raises(StoreError, match="closed file"):
        file.read()
    parquet.write_table(parquet.read_table(path), path, write_statistics=False)  # as other tools may
    with Opened(path, table) as file:
        assert {name: file.same(name) for name in kinds} == dict.fromkeys(kinds)


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    """A lake of a later Odograph is refused with a sentence."""
    FolderCommits(tmp_path).commit("a")
    with sqlite3.connect(tmp_path / "commits.sqlite") as db:
        db.execute("pragma user_version=99")
    for work in (lambda: FolderCommits(tmp_path).commit("b"), lambda: FolderCommits(tmp_path).wrong("")):
        with pytest.raises(NewerStore, match="version 99"):
            work()


def test_a_writer_that_is_killed_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    """SIGKILL while a file is written: no file under its name, the rest is an orphan that can be told."""
    program = f"""
        import os, signal
        from pathlib import Path
        from tests.tables.test_tables import BIRDS, ROWS
        from odograph.tables.files import Footer, Writer
        writer = Writer(Path({str(tmp_path)!r}), "birds/a.parquet", BIRDS, Footer("c"))
        writer.write(ROWS)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "birds/a.parquet").exists()
    assert len(FolderCommits(tmp_path).orphans()) == 1


def test_a_whole_file_says_its_commit(tmp_path: Path) -> None:
    """The footer of a file names its commit, its siblings and what the commit was; a file that is cut says that it is no Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    path = tmp_path / (name := written(tmp_path, id="one"))
    assert footer_of(path) == Footer("one", ("birds/one.parquet",), (), {"what": "a test"})
    data = path.read_bytes()
    foot = data[-8 - int.from_bytes(data[-8:-4], "little") :]
    at = foot.rindex(b"odograph.sum") + len(b"odograph.sum") + 2  # later versions compare the same bytes
    assert foot[at : at + 8] == b"%08x" % zlib.crc32(foot[:at] + b"00000000" + foot[at + 8 :])
    path.write_bytes(path.read_bytes()[:-7])
    for read in (footer_of, lambda _: _file(tmp_path, name)):
        with pytest.raises(StoreError, match=f"{path} can't be read"):
            read(path)
    parquet.write_table(pa.table({"name": ["wren"]}).replace_schema_metadata({FOOTER: b"{"}), path)  # as no Odograph wrote it
    with pytest.raises(StoreError, match=f"{path} has a footer that can't be read"):
        footer_of(path)


def _file(root: Path, path: str) -> Any:
    from odograph.tables.files import data_file

    return data_file("birds", path, root / path)
