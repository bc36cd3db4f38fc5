"""What a server does with bytes of journals that other machines send: each once, in order, whatever is killed."""

from __future__ import annotations

import fcntl
import os
import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

import odograph
from odograph.errors import InvalidInput, StoreError
from odograph.store import committing, shipped
from odograph.store.shipped import Elsewhere, Full, Receiving


@contextmanager
def receiving(folder: Path) -> Iterator[Receiving]:
    found = Receiving(folder)
    try:
        yield found
    finally:
        found.close()


def recorded(folder: Path, *, ends: bool = True, notes: int = 3) -> tuple[str, str, bytes]:
    """A run that was recorded on a machine: its id, the name of the journal, the journal's bytes."""
    with odograph.open(folder) as store:
        run = store.record(task="t", agent="a")
        for n in range(notes):
            with run.step(n) as step:
                step.llm_call(model="m", messages=[{"role": "user", "content": f"{n}"}], response="x")
        if ends:
            run.finish("done")
    (path,) = (folder / "journal").iterdir()
    return run.id, path.name.removesuffix(".jsonl"), path.read_bytes()


def files_held() -> Iterator[str]:
    """The names of the files that this process has open."""
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the list itself
            yield os.readlink(f"/proc/self/fd/{fd}")


def lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def test_bytes_are_taken_once_and_give_the_same_trajectory(tmp_path: Path) -> None:
    """A part that is sent again is refused with the size that is there; a writer's file arrives byte by byte as it was."""
    id, name, data = recorded(tmp_path / "client")
    first, *rest = lines(data)
    with receiving(tmp_path / "server") as server:
        assert server.size(name) == 0
        assert not (tmp_path / "server").exists()  # a question makes no file
        assert server.take(name, 0, first) == len(first)
        assert server.take(name, len(first), b"") == len(first)  # which says that its writer is alive
        assert server.sync("f" * 19) == 0
        for wrong in (0, len(first) - 1, len(data)):
            with pytest.raises(Elsewhere) as refused:
                server.take(name, wrong, b"".join(rest))
            assert refused.value.size == len(first)
        assert server.take(name, len(first), b"".join(rest)) == len(data) == server.sync(name)
    (path,) = (tmp_path / "server" / "journal").iterdir()
    assert path.read_bytes() == data
    with odograph.open(tmp_path / "server") as there, odograph.open(tmp_path / "client") as here:
        assert there.trajectory(id).to_dict() == here.trajectory(id).to_dict()


@pytest.mark.parametrize(
    "name",
    ["", "..", "../x", "a" * 19 + "/../x", "a" * 18, "A" * 19, "a" * 19 + ".jsonl", "a" * 19 + ".0", "a" * 19 + ".01", "a" * 19 + "\n",
     "a" * 19 + ".9999999", "٣" * 19, "%2e%2e", "a" * 19 + "\x00", "a" * 400],
)  # fmt: skip
def test_a_name_is_never_a_path(name: str, tmp_path: Path) -> None:
    """Only what this program calls a journal is one."""
    with receiving(tmp_path / "server") as server:
        for ask in (lambda: server.size(name), lambda: server.take(name, 0, b"x\n"), lambda: server.done(name)):
            with pytest.raises(InvalidInput, match="no name of a journal"):
                ask()
    assert not (tmp_path / "server").exists()


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    """A body has whole lines, and a journal begins with its own header, of a version that is known."""
    _, name, data = recorded(tmp_path / "client")
    head = lines(data)[0]
    with receiving(tmp_path / "server") as server:
        for wrong, why in (
            (b"no end", "whole lines"),
            (b"junk\n", "begins with its header"),
            (b"\xff\xfe\n" * 1000, "begins with its header"),
            (head.replace(name.encode(), b"f" * 19), "header is that of"),
            (head.replace(b'"part":0', b'"part":7'), "header is that of"),
        ):
            with pytest.raises(InvalidInput, match=why):
                server.take(name, 0, wrong)
        with pytest.raises(odograph.NewerStore):
            server.take(name, 0, head.replace(b'"schema_version":1', b'"schema_version":999'))
        server.done(name)
        assert not (tmp_path / "server").exists()
        assert server.take(name, 0, data) == len(data)


def test_half_a_line_of_a_killed_server_is_cut_off(tmp_path: Path) -> None:
    """The next server says how many whole lines there are, and goes on behind them."""
    id, name, data = recorded(tmp_path / "client")
    with receiving(tmp_path / "server") as server:
        server.take(name, 0, b"".join(lines(data)[:3]))
    (path,) = (tmp_path / "server" / "journal").iterdir()
    with path.open("ab") as file:
        file.write(lines(data)[3][:20])
    with receiving(tmp_path / "server") as server:
        at = server.size(name)
        assert at == len(b"".join(lines(data)[:3]))
        assert server.take(name, at, data[at:]) == len(data)
    assert path.read_bytes() == data
    assert len(odograph.open(tmp_path / "server").trajectory(id).steps) == 3


def test_a_writer_in_touch_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its open run is `running`; it is `unterminated` after a silence or a farewell, and `running` again when the writer is back."""
    monkeypatch.setattr(shipped, "LEASE", 3.0)
    id, name, data = recorded(tmp_path / "client", ends=False)
    head = b"".join(lines(data)[:4])
    server, store = Receiving(tmp_path / "server"), odograph.open(tmp_path / "server")
    server.take(name, 0, head)
    assert store.trajectory(id).status == next(store.summaries()).status == "running"
    while store.trajectory(id).status != "unterminated":
        shipped.time.sleep(0.02)
    assert next(store.summaries()).status == "unterminated"
    shipped.time.sleep(1.1)  # by now the catalog takes the file for one that can't grow
    assert store.count(status="running") == 0
    server.take(name, len(head), data[len(head) :])  # it is back
    assert store.trajectory(id).status == next(store.summaries()).status == "running"
    assert store.count(status="running") == 1
    server.close()  # the server is killed; who was in touch lately is alive for the next one
    server = Receiving(tmp_path / "server")
    assert store.trajectory(id).status == "running"
    server.done(name)
    assert store.trajectory(id).status == next(store.summaries()).status == "unterminated"
    server.close()
    store.close()


def test_a_writer_whose_part_was_sealed_and_deleted_goes_on(tmp_path: Path) -> None:
    """After a long silence a journal is sealed and gone. Its writer is told how much was there, and nothing comes twice."""
    pytest.importorskip("pyarrow")
    id, name, data = recorded(tmp_path / "client")
    parts = [b"".join(lines(data)[a:b]) for a, b in ((0, 4), (4, 7), (7, None))]
    with odograph.open(tmp_path / "server") as store:
        at = 0
        for number, part in enumerate(parts):
            with receiving(tmp_path / "server") as server:
                if at:
                    assert not list((tmp_path / "server" / "journal").glob("*.jsonl"))
                assert server.size(name) == at
                with pytest.raises(Elsewhere):
                    server.take(name, at + 1, part)
                at = server.take(name, at, part)
                assert store.seal().left == 1  # its writer is alive
                assert server.size(name) == at
            if number < 2:
                assert store.seal().deleted == 1
                store.compact(0.0)
        assert at == len(data)
        with odograph.open(tmp_path / "client") as here:
            assert store.trajectory(id).to_dict() == here.trajectory(id).to_dict()
            told, mine = next(store.summaries()), next(here.summaries())
            assert (told.steps, told.llm_calls, told.status) == (mine.steps, mine.llm_calls, mine.status) == (3, 3, "completed")
        with receiving(tmp_path / "server") as server:
            server.done(name)
        store.seal()
    assert not list((tmp_path / "server" / "shipped").iterdir())  # nobody will ask again


@pytest.mark.parametrize("more", [True, False])
def test_a_writer_that_comes_back_while_its_file_is_deleted(more: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seal that is about to delete the journal of a silent writer leaves it where the writer is back at that moment, with lines or
    without."""
    pytest.importorskip("pyarrow")
    id, name, data = recorded(tmp_path / "client")
    head = b"".join(lines(data)[:4])
    with receiving(tmp_path / "server") as server:
        server.take(name, 0, head)
    with ExitStack() as back, odograph.open(tmp_path / "server") as store:

        def comes(stage: str) -> None:
            if stage == "delete":
                server = back.enter_context(receiving(tmp_path / "server"))
                came.append(server)
                assert server.take(name, len(head), rest if more else b"") == len(data if more else head)

        came, rest = list[Receiving](), data[len(head) :]
        monkeypatch.setattr(committing, "stage", comes)
        done = store.seal()
        assert (done.lines, done.deleted, done.left) == (3, 0, 1)
        assert more or came[0].take(name, len(head), rest) == len(data)
        with odograph.open(tmp_path / "client") as here:
            assert store.trajectory(id).to_dict() == here.trajectory(id).to_dict()


@pytest.mark.parametrize("before", ["opened", "locked"])
def test_a_file_that_is_deleted_while_its_writer_comes_back(before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seal deletes the journal of a silent writer in the moment before the server opens or locks the file: the writer is told how
    much was there, and goes on."""
    pytest.importorskip("pyarrow")
    id, name, data = recorded(tmp_path / "client")
    head = b"".join(lines(data)[:4])
    with receiving(tmp_path / "server") as server:
        server.take(name, 0, head)
    with odograph.open(tmp_path / "server") as store:
        with monkeypatch.context() as patch, receiving(tmp_path / "server") as server:
            server.close()  # which holds the file of a writer that was in touch lately
            alone = shipped._alone
            if before == "opened":
                patch.setattr(server, "_room", lambda name: store.seal())
            else:
                patch.setattr(shipped, "_alone", lambda *of: (store.seal(), alone(*of)))
            assert server.size(name) == len(head)
            patch.undo()
            assert not list((tmp_path / "server" / "journal").iterdir())
            assert not [one for one in files_held() if name in one]  # else the disk would keep what was deleted
            assert server.take(name, len(head), data[len(head) :]) == len(data)
        with odograph.open(tmp_path / "client") as here:
            assert store.trajectory(id).to_dict() == here.trajectory(id).to_dict()


def test_half_a_line_is_never_sealed(tmp_path: Path) -> None:
    """What a killed server wrote of a line may yet become a line: a seal meanwhile leaves it, and it arrives once."""
    pytest.importorskip("pyarrow")
    id, name, data = recorded(tmp_path / "client")
    with receiving(tmp_path / "server") as server:
        server.take(name, 0, b"".join(lines(data)[:3]))
    (path,) = (tmp_path / "server" / "journal").iterdir()
    with path.open("ab") as file:
        file.write(lines(data)[3][:20])
    with odograph.open(tmp_path / "server") as store:
        assert [store.seal().commits for _ in range(2)] == [1, 0]
        assert not list((tmp_path / "server" / "lake").glob("*/.*"))  # the second began no file that stays
        with receiving(tmp_path / "server") as server:
            at = server.size(name)
            assert server.take(name, at, data[at:]) == len(data)
        store.seal()
        with odograph.open(tmp_path / "client") as here:
            assert store.trajectory(id).to_dict() == here.trajectory(id).to_dict()
        assert store.damages() == []


def test_a_full_disk_takes_nothing_by_half(tmp_path: Path) -> None:
    """Where there is no room for all of a part, none of it is there; it fits later."""
    _, name, data = recorded(tmp_path / "client", notes=200)
    head = lines(data)[0]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with receiving(tmp_path / "server") as server:
        server.take(name, 0, head)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(head) + 5000, before[1]))
        try:
            with pytest.raises(Full, match="no room"):
                server.take(name, len(head), data[len(head) :])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert server.size(name) == len(head)
        assert server.take(name, len(head), data[len(head) :]) == len(data)


def test_two_servers_of_one_store_never_write_one_journal(tmp_path: Path) -> None:
    """The second is refused while the first has the journal."""
    _, name, data = recorded(tmp_path / "client")
    with receiving(tmp_path / "server") as one, receiving(tmp_path / "server") as two:
        one.take(name, 0, data)
        with pytest.raises(StoreError, match="another process"):
            two.take(name, len(data), b"x\n")


def test_files_are_the_owners(tmp_path: Path) -> None:
    """What is shipped is as private as the store."""
    _, name, data = recorded(tmp_path / "client")
    folder = tmp_path / "folder" / "of" / "stores" / "server"
    with receiving(folder) as server:
        server.take(name, 0, data)
    (path,) = (folder / "journal").iterdir()
    assert (os.stat(path).st_mode & 0o777, os.stat(path.parent).st_mode & 0o777) == (0o600, 0o700)


def test_a_later_part_goes_on_behind_each_start_of_the_server(tmp_path: Path) -> None:
    """A writer's second file: its place is the same for a new server while the file is there, once it was sealed, and in the file that
    goes on with it, which has a first line of its own."""
    pytest.importorskip("pyarrow")
    id, name, data = recorded(tmp_path / "client")
    name, data = f"{name}.1", data.replace(b'"part":0', b'"part":1', 1)
    places = [len(b"".join(lines(data)[:n])) for n in (4, 6, 8)]
    at = 0
    with odograph.open(tmp_path / "server") as store:
        for number, stop in enumerate([*places, len(data)]):
            with receiving(tmp_path / "server") as server:
                assert server.size(name) == at
                assert server.take(name, at, data[at:stop]) == server.size(name) == stop
            at = stop
            if number % 2 == 0:
                with receiving(tmp_path / "server") as server:
                    assert server.size(name) == at
                assert store.seal().deleted == 1
        with odograph.open(tmp_path / "client") as here:
            assert store.trajectory(id).to_dict() == here.trajectory(id).to_dict()


def test_what_a_killed_server_wrote_of_a_line_may_be_all_or_long(tmp_path: Path) -> None:
    """Half a first line, and a half that is longer than what is read at once: what is whole before it stays."""
    _, name, data = recorded(tmp_path / "client")
    head, folder = lines(data)[0], tmp_path / "server" / "journal"
    folder.mkdir(parents=True)
    path = folder / f"{name}.0.0.jsonl"
    long = head + b"y" * 1_200_000 + b"\n"
    # the end of the last whole line may be the first byte that is read
    for whole, torn in ((b"", head[:-1]), (head, b"x"), (long, b"x" * 1_500_000), (head, b"x" * ((1 << 20) - 1))):
        path.write_bytes(whole + torn)
        with receiving(tmp_path / "server") as server:
            assert server.size(name) == len(whole) == path.stat().st_size
    path.write_bytes(head[:-1])
    with receiving(tmp_path / "server") as server:
        assert server.take(name, 0, data) == len(data)
    assert path.read_bytes() == data


def test_who_is_alive_when_a_server_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was in touch lately, for as long as that lasts. Nobody else: no writer that was silent, and no file of this machine."""
    monkeypatch.setattr(shipped, "LEASE", 1e6)
    _, name, data = recorded(tmp_path / "client")
    with receiving(tmp_path / "server") as server:
        server.take(name, 0, data)
        assert server._held[name].until > time.monotonic()
        os.utime(server._held[name].path, (0, 0))
        server.take(name, len(data), b"")  # which says that its writer is there, and brings nothing
    with receiving(tmp_path / "server") as server:
        assert server.alive() == 1
    with odograph.open(tmp_path / "server") as store:
        store.record(task="here").finish()
    (path,) = (tmp_path / "server" / "journal").glob(f"{name}.*")
    for silent, alive in ((0.9e6, 1), (1.1e6, 0)):
        os.utime(path, (time.time() - silent,) * 2)
        with receiving(tmp_path / "server") as server:
            assert server.alive() == alive
    with receiving(tmp_path / "server") as server:
        server.size(name)  # a writer that has nothing to send is in touch, too
    with receiving(tmp_path / "server") as server:
        assert server.alive() == 1


def test_what_stops_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a sentence that the sender shows: what is wrong here, of which journal."""
    _, name, data = recorded(tmp_path / "client")
    with receiving(tmp_path / "server") as server:
        server.take(name, 0, data)
        with pytest.raises(Elsewhere, match=rf"journal {name} has {len(data):,} bytes here, not 5"):
            server.take(name, 5, data)
        (path,) = (tmp_path / "server" / "journal").iterdir()
        monkeypatch.setattr(shipped, "_MOST", 1)
        other = "f" * 19
        full = f"1 journals are being shipped here, which is the most; {other} has to wait"
        with pytest.raises(StoreError, match=full):
            server.take(other, 0, data.replace(name.encode(), other.encode(), 1))
        there = path.with_name(f"{other}.0.0.jsonl")
        there.write_bytes(b"")
        with pytest.raises(StoreError, match=full):
            server.size(other)
        there.unlink()
        path.unlink()  # somebody deleted the file: all is sent again
        assert server.size(name) == 0
        assert server.take(name, 0, data) == len(data)
        kept, ends = os.dup(server._held[name].fd), os.pipe()
        os.dup2(ends[1], server._held[name].fd)  # of which no disk takes what was written
        with pytest.raises(StoreError, match=f"the server can't write journal {name}: Invalid"):
            server.sync(name)
        os.dup2(kept, server._held[name].fd)
        for fd in (kept, *ends):
            os.close(fd)
        server.done(name)
        with pytest.raises(InvalidInput, match=f"journal {name} is complete here"):
            server.take(name, len(data), data)

    def refuse() -> None:
        raise StoreError("nothing may be written now")

    closed = Receiving(tmp_path / "closed", refuse)
    with pytest.raises(StoreError, match="may be written"):
        closed.take(name, 0, data)
    closed.close()
    assert not (tmp_path / "closed").exists()
    (tmp_path / "server" / "shipped").mkdir()
    (tmp_path / "server" / "shipped" / other).write_text("many")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "journal").write_bytes(b"")
    with (
        receiving(tmp_path / "server") as server,
        pytest.raises(StoreError, match=f"received parts of journal {other}, can't be"),
    ):
        server.size(other)
    with receiving(tmp_path / "odd") as server, pytest.raises(StoreError, match=f"the server can't write journal {name}: File"):
        server.take(name, 0, data)
    there.mkdir()
    with (
        receiving(tmp_path / "server") as server,
        pytest.raises(StoreError, match=f"the server can't write journal {other}: Is a directory"),
    ):
        server.size(other)


def test_a_reader_that_looks_for_a_moment_stops_no_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose lock somebody has for a moment is taken once it is free: the server sleeps, and tries again."""
    _, name, data = recorded(tmp_path / "client")
    with receiving(tmp_path / "server") as server:
        server.take(name, 0, data)
    (path,) = (tmp_path / "server" / "journal").iterdir()
    os.utime(path, (0, 0))  # the next server does not look for it by itself
    with path.open() as reader, receiving(tmp_path / "server") as server:
        fcntl.flock(reader, fcntl.LOCK_SH)
        monkeypatch.setattr(shipped.time, "sleep", lambda _: fcntl.flock(reader, fcntl.LOCK_UN))
        assert server.size(name) == len(data)


def test_a_server_keeps_no_descriptor(tmp_path: Path) -> None:
    """Journals that were taken, brought to the disk, refused, sealed and deleted leave nothing open; what is left is the owner's."""
    pytest.importorskip("pyarrow")
    _, name, data = recorded(tmp_path / "client")
    with odograph.open(tmp_path / "server") as store, receiving(tmp_path / "server") as server:

        def cycle(n: int) -> None:
            journal = f"{n:019x}"
            with receiving(tmp_path / "server") as one:
                one.take(journal, 0, data.replace(name.encode(), journal.encode(), 1))
                one.sync(journal)
                with pytest.raises(StoreError, match="another process"):
                    server.size(journal)
                if n % 2:
                    one.done(journal)
                    with pytest.raises(InvalidInput, match="complete"):
                        one.size(journal)
            store.seal()

        cycle(0)
        before = len(os.listdir("/proc/self/fd"))
        for n in range(1, 4):
            cycle(n)
        assert len(os.listdir("/proc/self/fd")) == before
    kept = tmp_path / "server" / "shipped"
    assert sorted(path.name for path in kept.iterdir()) == [f"{n:019x}" for n in (0, 2)]
    assert [path.stat().st_mode & 0o777 for path in (kept, *kept.iterdir())] == [0o700, 0o600, 0o600]


def test_a_file_system_that_counts_no_links_is_shipped_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some say 0 of each file: a writer goes on with the file that is there, in this server and in the next one."""
    _, name, data = recorded(tmp_path / "client")
    fstat = os.fstat
    monkeypatch.setattr(os, "fstat", lambda fd: os.stat_result((*fstat(fd)[:3], 0, *fstat(fd)[4:])))
    at = 0
    for part in (lines(data)[:2], lines(data)[2:4]):
        with receiving(tmp_path / "server") as server:
            for line in part:
                at = server.take(name, at, line)
    assert [path.read_bytes() for path in (tmp_path / "server" / "journal").iterdir()] == [data[:at]]
