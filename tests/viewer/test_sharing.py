"""A store that is served: other machines record into it and read it, over real sockets, whoever is killed and whatever breaks."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import pickle
import random
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import odograph
from odograph.cli import main
from odograph.errors import InvalidInput, NotFound, OdographError, StoreError
from odograph.store import journal, opening, shipping
from odograph.store.opening import reopened
from odograph.store.remote import Line
from odograph.store.served import Served
from odograph.store.shipping import Shipping
from tests.waiting import until

pytest.importorskip("aiohttp")
RECORDS, LABELS, READS = "c" * 20, "w" * 20, "r" * 20


class Server:
    """`odograph serve` as a process, which can be killed and started again at the same port."""

    def __init__(self, root: Path, *flags: str) -> None:
        odograph.open(root).close()
        root.mkdir(exist_ok=True)
        self.root = root
        self._flags = flags
        self.port = 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "odograph", "--store", str(self.root), "serve", "--port", str(self.port), "--json"]
        command += ["--record-token", RECORDS, "--token", LABELS, "--read-token", READS, *self._flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.url = json.loads(self.process.stdout.readline())["url"].partition("/?")[0]
        self.port = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait() == 0


@contextmanager
def serving(root: Path, *flags: str) -> Iterator[Server]:
    server = Server(root, *flags)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served") / "s") as found:
        yield found


def opened(server: Server | str, local: Path, token: str = RECORDS, **more: Any) -> odograph.Store:
    return odograph.open(server if isinstance(server, str) else server.url, token=token, local=local, **more)


def recorded(store: odograph.Store, task: str = "t", **more: Any) -> str:
    with store.record(task=task, **more) as run:
        for n in range(3):
            with run.step({"n": n}) as step:
                step.llm_call(
                    model="m",
                    messages=[{"role": "user", "content": f"ä\u2028 {k}"} for k in range(n + 1)],
                    response={"any": [1, None, float("nan")]},
                    prompt_token_ids=list(range(n * 3 + 3)),
                    token_ids=[7, 8],
                    logprobs=[-0.5, -0.25],
                )
                step.action("tool", {"x": b"bytes"}, result="fine")
        run.reward(0.5)
        run.finish("done")
    return run.id


def one(t: Any) -> float:
    return 1.0


def test_what_is_read_is_what_the_server_has(server: Server, tmp_path: Path) -> None:
    """`to_dict`, summaries, filters, counts, search and figures are equal on both machines; a late reward arrives, too."""
    with opened(server, tmp_path) as store, odograph.open(server.root) as there:
        ids = [recorded(store, f"equal {n}", group="equal", agent=f"a{n % 2}") for n in range(20)]
        store.append(ids[0]).reward(1.0, name="late")
        store.append(ids[1]).label(technique="care", value="good")
        for id in ids[:3]:
            assert store.trajectory(id).to_dict() == there.trajectory(id).to_dict()
        assert store.trajectory(ids[0]).rewards[-1].name == "late"
        assert store.trajectory(ids[1][-8:]).id == ids[1]
        mine, theirs = list(store.trajectories(group="equal")), list(there.trajectories(group="equal"))
        assert [t.to_dict() for t in mine] == [t.to_dict() for t in theirs] and len(mine) == 20
        for filters in (
            {"group": "equal", "agent": "a1", "limit": 5},
            {"text": "equal 7"},
            {"min_reward": 1.2},
            {"time_range": "1h"},
        ):
            assert list(store.summaries(**filters)) == list(there.summaries(**filters)), filters
            assert store.count(**filters) == there.count(**filters), filters
        assert [s.id for s in store.summaries(newest_first=True, limit=3)] == ids[:-4:-1]
        assert next(store.summaries(group="equal")).id == ids[0]  # who leaves a list may ask again at once
        assert store.search("equal 7") == there.search("equal 7") != []
        assert store.used(ids) == there.used(ids)
        assert store.stats(group="equal").to_dict() == there.stats(group="equal").to_dict()
        assert {s.trajectory for s in odograph.samples(store.trajectories(group="equal"))} <= set(ids)
        assert store.validate(group="equal").counts == there.validate(group="equal").counts
        store.export(tmp_path / "out", to="jsonl", group="equal")
        assert store.score(one, version="1", group="equal").scored == 20
        assert store.score(one, version="1", group="equal").scored == 0
        with pytest.raises(NotFound, match="no trajectory 'nothing' among"):
            store.trajectory("nothing")
        for ask in (lambda: store.sql("select 1"), lambda: store.sql("select * from facts"), lambda: store.frame("facts")):
            with pytest.raises(InvalidInput, match="reading with SQL or as a frame is done on the machine that serves http"):
                ask()
        with pytest.raises(InvalidInput, match="following records is done on the machine that serves http"):
            store.tail()
        parent = store.backend.reader.known(ids[0])  # which an export of a fork asks for
        assert parent is not None and parent.to_dict() == there.trajectory(ids[0]).to_dict()
        assert store.backend.reader.known("nothing") is None
        with pytest.raises(InvalidInput, match="on the machine that serves it"):
            store.seal()
        assert store.health()["unshipped"] == 0
    assert not list(tmp_path.glob("*/journal/*.jsonl"))  # the server has it


def test_each_question_sees_what_this_process_wrote(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits on this machine is sent before a question is asked, whatever the question is, and in however many pieces."""
    monkeypatch.setattr("odograph.store.shipping._CHUNK", 1000)
    with opened(server, tmp_path) as store:
        for number, asked in enumerate(
            (
                lambda: store.count(group="now"),
                lambda: len(list(store.summaries(group="now"))),
                lambda: len(list(store.trajectories(group="now"))),
                lambda: store.stats(group="now").whole.trajectories,
                lambda: len(store.search("searchable")),
            ),
            start=1,
        ):
            recorded(store, "searchable", group="now")
            assert asked() == number


def test_a_file_that_is_being_made_is_not_taken_for_one_of_a_dead_writer(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that sends what killed processes left comes between another one's making its file and taking the file's lock: the
    records of the other process are in a file that has a name."""
    with opened(server, tmp_path) as sender, opened(server, tmp_path) as store:
        made = []

        def flock(fd: int, how: int) -> None:
            monkeypatch.undo()
            made.append((at := f"/proc/self/fd/{fd}", os.readlink(at)))
            sender.flush()
            fcntl.flock(fd, how)

        monkeypatch.setattr(journal, "fcntl", SimpleNamespace(flock=flock, LOCK_EX=fcntl.LOCK_EX))
        id = recorded(store, "made")
        assert store.health()["files_lost"] == 0
        assert len(store.trajectory(id).steps) == 3
        ((at, file),) = made
        assert os.path.realpath(at) != f"{file} (deleted)"  # closed, or that of another file now


def test_each_way_to_a_trajectory_sees_what_this_process_wrote(server: Server, tmp_path: Path) -> None:
    """By its whole id, by lines, after a look, by facts, by its writers: none needs another question before it."""
    with opened(server, tmp_path) as store:
        reader = store.backend.reader

        def looked(id: str) -> int:
            reader.look()
            return len(list(reader.read([id, "nothing"])))

        for ask in (
            lambda id: reader.known(id) is not None,
            lambda id: reader.look_at(id, lambda lines: len(list(lines))) > 0,
            lambda id: looked(id) == 1,
            lambda id: reader.facts(id[-12:])[0] == id,
            lambda id: reader.trajectory(id).id == id,
            lambda id: reader.writers(id) == {store.backend.journal.writer},
            lambda id: list(reader.there([id, "nothing"])) == [id],
            lambda id: reader.count() > 0,
            lambda id: [raw for _, raw, _ in reader.raw(["nothing", id[-12:]])] == [[], []],
        ):
            assert ask(recorded(store, "way"))
        with pytest.raises(InvalidInput, match="reading with SQL or as a frame is done on the machine that serves http"):
            _ = reader.catalog


def test_a_closed_store_keeps_no_connection(server: Server, tmp_path: Path) -> None:
    """Also where the program still holds the store."""
    before = len(os.listdir("/proc/self/fd"))
    store = opened(server, tmp_path)
    recorded(store)
    assert store.count() > 0
    store.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_closed_store_stays_closed_on_a_slow_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group commit that ends after its store was closed wakes no sender: what was closed connects to nobody, and says nothing at the
    end of the process."""
    began, closed, done = threading.Event(), threading.Event(), threading.Event()
    sync = journal.Journal.sync

    def slow(one: journal.Journal) -> None:
        mine = one.folder == tmp_path / "plain" / "journal" and threading.current_thread() is not threading.main_thread()
        if mine:
            began.set()
            closed.wait()
        sync(one)
        if mine:
            done.set()

    monkeypatch.setattr(journal.Journal, "sync", slow)
    store = opened(server, tmp_path)
    recorded(store)
    began.wait()
    store.close()
    closed.set()
    done.wait()
    assert store.backend._shipping._closed


def test_what_is_added_again_adds_nothing(server: Server, tmp_path: Path) -> None:
    """The store that is served is asked for what it has: the same trajectory adds nothing, and one that says otherwise a correction."""
    with opened(server, tmp_path) as store:
        given = store.trajectory(recorded(store, "again")).to_dict()
        for answer, more in (("done", 0), ("other", 1), ("other", 0)):
            before = len(store.trajectory(given["id"]).records)
            store.add({**given, "end": {**given["end"], "answer": answer}})
            t = store.trajectory(given["id"])
            assert (t.answer, len(t.records) - before) == (answer, more)


def test_samples_of_other_tools_are_the_same_on_both_machines(server: Server, tmp_path: Path, samples: Path) -> None:
    """Real sessions that are imported from another machine read the same there and at the server."""
    paths = sorted(p for p in samples.rglob("*.jsonl") if p.stat().st_size < 300_000)[:12]
    with opened(server, tmp_path) as store, odograph.open(server.root) as there:
        ids = [one["id"] for one in store.import_sessions(*paths).trajectories]
        assert len(ids) > 5
        for id in ids:
            assert store.trajectory(id).to_dict() == there.trajectory(id).to_dict()


def test_a_run_is_seen_while_it_runs_and_by_others(server: Server, tmp_path: Path) -> None:
    """A process sees what it wrote at once; others see an open run as running, without being told."""
    with opened(server, tmp_path / "a") as one, opened(server, tmp_path / "b", READS) as other:
        run = one.record(task="open")
        run.note({"n": 1})
        assert one.trajectory(run.id).status == "running"
        assert one.is_written_elsewhere(run.id) is False
        with run.step():
            assert len(one.trajectory(run.id).steps) == 1
        run.note({"n": 2})
        until(lambda: len(other.trajectory(run.id).records) == 4)  # sent behind the run
        assert other.trajectory(run.id).status == "running"
        assert other.is_written_elsewhere(run.id) is True
        run.finish("done")
        one.flush()
        assert other.trajectory(run.id).status == "completed"


def test_the_store_is_reopened_by_its_address(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickled place, a worker process and a pickled response reach the same store; no token is shown."""
    with opened(server, tmp_path) as store:
        ids = [recorded(store, "reopened", group="reopened") for _ in range(3)]
        place = pickle.loads(pickle.dumps(store.backend.place))
        assert RECORDS not in repr(place) + repr(store) + str(store.backend)
        monkeypatch.setenv("ODOGRAPH_TOKEN", RECORDS)  # a token of the environment is looked up where the store is opened
        with opened(server, tmp_path / "b") as other:
            assert RECORDS.encode() not in pickle.dumps(other.backend.place)
        with odograph.open(place) as again:
            assert again.trajectory(ids[0]).to_dict() == store.trajectory(ids[0]).to_dict()
        report = store.validate(group="reopened", workers=2)
        assert report.counts == store.validate(group="reopened", workers=1).counts


def test_commands_read_by_the_address(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ls`, `show`, `stats`, `export` and `ship` take the address as a store, and the token from a flag or the environment."""
    monkeypatch.setenv("ODOGRAPH_LOCAL", str(tmp_path))
    with opened(server, tmp_path / "l") as store:
        id = recorded(store, "by command", group="commands")
    monkeypatch.setenv("ODOGRAPH_TOKEN", "")
    where = ["--store", server.url]
    assert main([*where, "ls"]) == 1
    assert "does not know the token" in capsys.readouterr().err
    assert main([*where, "ls", "--token", READS, "--group", "commands", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == id
    monkeypatch.setenv("ODOGRAPH_TOKEN", READS)
    assert main([*where, "show", id[-8:]]) == 0
    assert main([*where, "stats", "--group", "commands"]) == 0
    assert main([*where, "export", "--to", "jsonl", "-o", str(tmp_path / "out"), "--group", "commands"]) == 0
    assert "by command" in capsys.readouterr().out
    assert main([*where, "ship", "--token", RECORDS]) == 0
    assert "nothing waits" in capsys.readouterr().out
    assert main(["--store", str(server.root), "ship"]) == 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl, which makes the certificate")
def test_a_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private authority is trusted where `SSL_CERT_FILE` names it, and nowhere else; nothing is sent to who is not trusted."""
    key, pem = tmp_path / "key.pem", tmp_path / "c.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*command.split(), "-keyout", key, "-out", pem], check=True, capture_output=True)
    with serving(tmp_path / "s", "--tls-cert", str(pem), "--tls-key", str(key)) as server:
        assert server.url.startswith("https://")
        with opened(server, tmp_path / "w") as store:
            id = recorded(store)
            with pytest.raises(StoreError, match="is not trusted"):
                store.trajectory(id)
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        with opened(server, tmp_path / "w") as store:
            store.flush()
            assert store.trajectory(id).status == "completed"


def test_rights(server: Server, tmp_path: Path) -> None:
    """A token reads, or it records, too; another one gets one sentence, and what it wrote stays."""
    with opened(server, tmp_path, READS) as store:
        assert store.count() >= 0
        with pytest.raises(StoreError, match="the token may not record"):
            store.record(task="t")
    with opened(server, tmp_path, LABELS) as store, pytest.raises(StoreError, match="may not record"):
        store.record(task="t")
    with pytest.raises(StoreError, match=f"^{server.url} does not know the token; give the one"):
        opened(server, tmp_path, "x" * 20)
    for token in (READS, LABELS):
        line = Line(Served(server.url, token))
        for ask in (lambda line=line: line.get("journal", "a" * 19), lambda line=line: line.post("journal", "a" * 19, "done")):
            with pytest.raises(StoreError, match="this token may"):
                ask()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://runs.example.org", "^http://runs.example.org would send the token and all records unencrypted"),
        ("https://u:p4ss@host/", "^the address of this served store is https://.*host/; give the token as token="),
        ("http://127.0.0.1:1/?token=s3cret", "give the token as token="),
        ("https://", "https://host"),
        ("https://a..b", "https://host"),
        ("http://127.0.0.1:99999", "https://host"),
    ],
)
def test_addresses_that_are_refused(address: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token or record goes out unencrypted, and no token stands in an address; the error shows none."""
    with pytest.raises(InvalidInput, match=said) as refused:
        odograph.open(address, token=RECORDS, local=tmp_path)
    assert "s3cret" not in str(refused.value) and "p4ss" not in str(refused.value)
    with pytest.raises(InvalidInput, match="token= is for a served store"):
        odograph.open(tmp_path, token=RECORDS)
    for token in ("\u00e4" * 20, "a\r\nHost: x", "x\n"):  # none may end a line of a header
        with pytest.raises(InvalidInput, match="a token is characters of ASCII"):
            odograph.open("https://127.0.0.1:1", token=token, local=tmp_path)
        monkeypatch.setenv("ODOGRAPH_TOKEN", token)  # a file of secrets often ends in one
        with pytest.raises(InvalidInput, match="a token is characters of ASCII"):
            odograph.open("http://127.0.0.1:1", local=tmp_path)


class Odd(BaseHTTPRequestHandler):
    """Answers as things do that stand between."""

    def do_GET(self) -> None:
        kind = self.headers["Authorization"].removeprefix("Bearer ")
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", "https://login.example.org/?state=s3cret")
            body = b""
        elif kind == "old":
            self.send_response(404)
            self.send_header("Content-Type", "application/json")
            body = b'{"error":"there is nothing here"}'
        elif kind.startswith("frames"):  # an answer in parts, of which the last ones are lost on the way
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write((b"\0\0\0\x02[]" * 3)[: int(kind[6:])])
            return
        elif kind == "other":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")
            return
        elif kind == "silent":
            return
        elif kind == "short":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b'{"right"')
            return
        else:
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if kind == "html" else "application/json")
            body = {"html": b"<html>please log in</html>", "list": b"[]"}.get(kind, b'{"right"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *given: Any) -> None:
        pass


@pytest.mark.parametrize("bytes_that_come", [0, 2, 5, 6, 12])
def test_a_list_that_breaks_off_is_no_shorter_list(bytes_that_come: int) -> None:
    """Where an answer in parts ends before its end, between two parts or in one, reading says so, whatever the address is."""
    with HTTPServer(("127.0.0.1", 0), Odd) as odd:
        threading.Thread(target=odd.serve_forever, args=(0.01,), daemon=True).start()
        line = Line(Served(f"http://127.0.0.1:{odd.server_port}/ä b", f"frames{bytes_that_come}"))
        with pytest.raises(StoreError, match="broke off"):
            list(line.stream("read", "summaries", body={}))
        odd.shutdown()


def test_a_refusal_in_the_middle_of_a_body_is_told() -> None:
    """A server that does not take a long body answers before it has read the body, and closes."""
    said = b'{"error":"no room for that"}'
    head = b"HTTP/1.1 507 Full\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(said)

    def refuse(listening: socket.socket) -> None:
        with listening.accept()[0] as connection:
            while b"\r\n\r\n" not in connection.recv(1 << 16):
                pass
            connection.sendall(head + said)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=refuse, args=(listening,), daemon=True).start()
        line = Line(Served(f"http://127.0.0.1:{listening.getsockname()[1]}", RECORDS))
        with pytest.raises(StoreError, match="no room for that"):
            line.post("journal", "a" * 19, body=b"x" * (32 << 20), kind="application/octet-stream")


def test_after_half_an_answer_a_new_connection_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an answer stops in the middle and the connection stays, the next question does not wait behind it."""

    kept: list[socket.socket] = []

    def answers(listening: socket.socket) -> None:
        for body in (b'{"a"', b'{"a":1}'):
            kept.append(listening.accept()[0])
            kept[-1].sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n" + body)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answers, args=(listening,), daemon=True).start()
        line = Line(Served(f"http://127.0.0.1:{listening.getsockname()[1]}", RECORDS))
        with monkeypatch.context() as patch:
            patch.setattr("odograph.store.remote._TIMEOUT", 0.1)
            with pytest.raises(StoreError, match="can't be reached: timed out"):
                line.get("store")
        assert line.get("store") == {"a": 1}
        line.close()
    for connection in kept:
        connection.close()


class _Forward(socketserver.StreamRequestHandler):
    """A proxy of a company: connects a client with whomever it names."""

    def handle(self) -> None:
        asked = self.rfile.readline().decode().split()
        while line := self.rfile.readline().decode().strip():
            asked.append(line)
        self.server.asked.append(asked)  # type: ignore[attr-defined]
        with suppress(OSError), socket.create_connection(("127.0.0.1", int(asked[1].rpartition(":")[2]))) as there:
            self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")

            def back() -> None:
                with suppress(OSError):
                    while data := there.recv(1 << 16):
                        self.wfile.write(data)

            threading.Thread(target=back, daemon=True).start()
            with suppress(OSError):
                while data := self.connection.recv(1 << 16):
                    there.sendall(data)


@pytest.mark.parametrize(
    ("scheme", "more"), [("", []), ("http://", []), ("http://me:p%40ss@", ["Proxy-Authorization: Basic bWU6cEBzcw=="])]
)
def test_a_proxy_of_the_environment_leads_to_the_server(
    scheme: str, more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server beyond this machine, and no other, is reached through the proxy that $HTTP_PROXY or $ALL_PROXY names, with or without
    a scheme, and a name and a password for the proxy."""
    with (
        serving(tmp_path / "s", "--allow-host", "store.example") as server,
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Forward) as forward,
    ):
        forward.daemon_threads, forward.asked = True, []  # type: ignore[attr-defined]
        threading.Thread(target=forward.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("http_proxy", f"{scheme}127.0.0.1:{forward.server_address[1]}")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("ODOGRAPH_ALLOW_HTTP", "1")
        with opened(f"http://store.example:{server.port}", tmp_path) as store:
            assert store.trajectory(recorded(store, "far")).task == "far"
        there = len(forward.asked)  # type: ignore[attr-defined]
        assert Line(Served(server.url, READS)).get("store")
        assert len(forward.asked) == there  # type: ignore[attr-defined]
        for asked in forward.asked.copy():  # type: ignore[attr-defined]
            assert asked[:2] == ["CONNECT", f"store.example:{server.port}"]
            assert [line for line in asked if line.startswith("Proxy-")] == more
        monkeypatch.setenv("https_proxy", f"{scheme}127.0.0.1:{forward.server_address[1]}")
        for protocol, port in (("http", 80), ("https", 443)):
            with pytest.raises(StoreError):
                Line(Served(f"{protocol}://store.example")).get("store")
            assert forward.asked[-1][1] == f"store.example:{port}"  # type: ignore[attr-defined]
        monkeypatch.setenv("all_proxy", os.environ["http_proxy"])
        monkeypatch.setenv("http_proxy", "")  # as if neither this nor $HTTP_PROXY were set
        for beside, through in (("0.0.0.0:81", True), ("0.0.0.0:80", False)):
            monkeypatch.setenv("no_proxy", beside)
            there = len(forward.asked)  # type: ignore[attr-defined]
            with pytest.raises(StoreError):
                Line(Served("http://0.0.0.0")).get("store")
            assert (len(forward.asked) > there) is through  # type: ignore[attr-defined]
        forward.shutdown()
    monkeypatch.setenv("http_proxy", "127.0.0.1:9")
    with pytest.raises(StoreError, match=r"store.example can't be reached through the proxy 127.0.0.1:\d+: Connection refused"):
        Line(Served("http://store.example")).get("store")
    monkeypatch.setenv("http_proxy", "127.0.0.1")
    with pytest.raises(StoreError, match=r"store.example can't be reached through the proxy 127.0.0.1:80: "):
        Line(Served("http://store.example")).get("store")
    monkeypatch.setenv("http_proxy", "")  # as if neither this nor $HTTP_PROXY were set
    monkeypatch.setenv("all_proxy", "socks5h://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"store.example can't be reached through a socks5h proxy, but through an HTTP one"):
        Line(Served("http://store.example")).get("store")


def test_an_answer_may_take_longer_than_a_connection(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not answer the call is given up early; a question that takes long is not. Questions go over one connection."""
    monkeypatch.setattr("odograph.store.remote._CONNECT", 5.0)
    monkeypatch.setattr("odograph.store.remote._TIMEOUT", 77.0)
    line = Line(Served(server.url, READS))
    assert line.get("store")
    (kept,) = line._idle
    assert kept.sock.gettimeout() == 77.0
    list(line.stream("read", "summaries", body=[{}, False]))
    assert line._idle == [kept]
    line.close()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("redirect", "sends elsewhere, to 'https://login.example.org/'; name the address"),
        ("other", "no `odograph serve` answers: found 'SSH-2.0-OpenSSH_9.6', which is no HTTP"),
        ("silent", "can't be reached: Remote end closed connection without response"),
        ("html", "no `odograph serve` answers"),
        ("list", "can't be read: Expected `object`, got `array`"),
        ("junk", "can't be read: not JSON"),
        ("short", "broke off"),
        ("down", "can't be reached"),
    ],
)
def test_what_is_no_server_costs_nothing(kind: str, said: str, server: Server, tmp_path: Path) -> None:
    """With a redirect, another protocol, a proxy's page, half an answer or nobody there, recording goes on, reading says why, nothing
    is lost."""
    with HTTPServer(("127.0.0.1", 0), Odd) as odd:
        threading.Thread(target=odd.serve_forever, args=(0.01,), daemon=True).start()
        port = odd.server_port
        if kind == "down":
            odd.shutdown()
            odd.server_close()
        store = opened(f"http://127.0.0.1:{port}", tmp_path, kind)
        assert said in store.health()["unshipped_why"]
        id = recorded(store)
        with pytest.raises(StoreError, match=said) as error:
            store.trajectory(id)
        assert "s3cret" not in str(error.value)
        with pytest.raises(StoreError, match=said):
            store.count()
        store.append(id).reward(1.0)  # of a run that waits here
        with pytest.raises(StoreError, match=said):
            store.append("f" * 36).reward(1.0)  # of one that is nowhere
        health = store.health()
        assert health["unshipped"] == sum(path.stat().st_size for path in tmp_path.glob("*/journal/*"))
        assert said in health["unshipped_why"] and health["unshipped_since"]
        store.close()
        if kind != "down":
            odd.shutdown()
    with opened(server, tmp_path) as store:  # the same folder, a server is there: all of it arrives
        store.flush()
        assert store.trajectory(id).rewards[-1].value == 1.0
        assert store.health()["unshipped"] == 0


def test_a_folder_where_records_wait_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later version finds what an earlier one left there."""
    monkeypatch.setenv("ODOGRAPH_LOCAL", str(tmp_path))
    assert opening._waiting(Served("https://runs.example.org", "")) == tmp_path / "odograph/remote/f641b276cacc68e7"
    shared = opening.tables_of("s3://bucket/runs", "sqlite:////tmp/x.db", None)
    assert opening._local(shared) == tmp_path / "odograph/runs-d8fdd4c9"


def test_who_records_asks_a_server_that_takes_nothing_seldom(tmp_path: Path) -> None:
    """However often something is written: what waits is gathered, and it waits longer after each refusal."""
    asked = []

    class Counted(Odd):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        do_POST = do_GET

    with HTTPServer(("127.0.0.1", 0), Counted) as odd:
        threading.Thread(target=odd.serve_forever, args=(0.01,), daemon=True).start()
        with opened(f"http://127.0.0.1:{odd.server_port}", tmp_path, "html", durability="sync") as store:
            run = store.record(task="t")
            for n in range(300):
                run.note(n)
            assert 0 < len(asked) < 30
        odd.shutdown()


def test_who_has_nothing_to_send_does_nothing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent behind a run is looked for once after each time that something was written, and then not before a beat."""
    did = {"wake": 0, "beat": 0}

    def counted(name: str, do: Any) -> Any:
        def call(self: Shipping) -> Any:
            did[name] += self.base == tmp_path  # those of other tests may still try
            return do(self)

        return call

    for name in did:
        monkeypatch.setattr(Shipping, name, counted(name, getattr(Shipping, name)))
    monkeypatch.setattr("odograph.store.shipping._GATHER", 0.0)
    monkeypatch.setattr("odograph.store.shipping._BEAT", 1000.0)
    with opened(server, tmp_path) as store:
        for n in range(3):
            until(lambda n=n: did["beat"] >= n)
            recorded(store, "wakes")
        assert store.count() > 0
        assert did["beat"] <= did["wake"]


def test_a_server_that_fails_is_asked_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is recorded meanwhile; once it answers, lines are gathered for a moment again."""
    slept: list[float] = []
    here = threading.get_ident()

    def sleep(seconds: float) -> None:
        (slept.append if threading.get_ident() == here else time.sleep)(seconds)  # senders of other tests may still try

    monkeypatch.setattr(shipping, "time", SimpleNamespace(**{**vars(time), "sleep": sleep}))
    answers = [True, *[False] * 9, True, False]
    sender = SimpleNamespace(beat=lambda: answers.pop(0))
    wake = SimpleNamespace(wait=lambda seconds: True, clear=lambda: None)
    shipping._run(lambda: sender if answers else None, wake)  # type: ignore[arg-type]
    assert slept == [0.1, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 0.1, 0.25]


def test_what_a_process_leaves_open_is_sent_at_its_end(server: Server, tmp_path: Path) -> None:
    """Also where the process ends at once. Where nobody answers, the process says once of each store what waits, whether the process
    closed the store or not."""
    code = (
        "import sys, odograph\n"
        "stores = [odograph.open(where, local=f'{sys.argv[1]}/{n}') for n, where in enumerate(sys.argv[2:])]\n"
        "for store in stores:\n"
        "    with store.record(task='left open'): pass\n"
        "stores[0].close()\n"
        "stores[2].flush()\n"
        "with stores[2].record(task='later'): pass\n"
    )
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        command = [sys.executable, "-c", code, str(tmp_path), away, away, server.url]
        env = {**os.environ, "ODOGRAPH_TOKEN": RECORDS}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    said = done.stderr.splitlines()
    assert [f"bytes wait in {tmp_path / str(n)}" in line for n, line in enumerate(said)] == [True, True]
    assert [len([*(tmp_path / str(n)).glob("*/journal/*")]) for n in range(3)] == [1, 1, 0]


def test_an_old_server_says_so(tmp_path: Path) -> None:
    """A server that knows nothing of records is named as old."""
    with HTTPServer(("127.0.0.1", 0), Odd) as odd:
        threading.Thread(target=odd.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.raises(StoreError, match="older Odograph"):
            opened(f"http://127.0.0.1:{odd.server_port}", tmp_path, "old")
        odd.shutdown()


def test_redaction_is_the_servers(tmp_path: Path) -> None:
    """A client asks how the store redacts and removes secrets before its own disk has them; otherwise redacted bytes are refused."""
    secret = "sk-proj-9fKx27QpLw83mZrT5vBn61YcHd40sJgE8uAiXo2N"
    root = tmp_path / "s"
    with odograph.open(root, redact=["p[0-9]{4}w"]) as store:
        recorded(store)
    with serving(root) as server:
        with opened(server, tmp_path / "a") as store:
            id = recorded(store, f"{secret} p1234w")
            waits = b"".join(p.read_bytes() for p in (tmp_path / "a").glob("*/journal/*"))
            assert waits and secret.encode() not in waits and b"p1234w" not in waits
            assert "[" in store.trajectory(id).task and secret not in store.trajectory(id).task
        with pytest.raises(InvalidInput, match="leave redact= out"):
            opened(server, tmp_path / "a", redact=False)
        opened(server, tmp_path / "same", redact=["p[0-9]{4}w"]).close()
        _, name, data = _journal(tmp_path / "plain")
        line = Line(Served(server.url, RECORDS))
        with pytest.raises(StoreError, match="redacts in another way"):
            line.post("journal", name, body=data, kind="application/octet-stream", **{"from": "0", "redact": ""})
        assert "redact" not in Line(Served(server.url, READS)).get("store")  # patterns may be secrets
        new = tmp_path / "new" / "c"
        opened(server, new).close()
        server.kill()
        for local in (tmp_path / "a", new):
            with opened(server, local) as store:  # it is away: what is known of it holds
                recorded(store, f"{secret} p1234w")
            assert b"p1234w" not in b"".join(p.read_bytes() for p in local.glob("*/journal/*"))
        with opened(server, tmp_path / "b") as store:  # nobody here knows how it redacts
            lost = recorded(store, "p1234w")
        server.start()
        with opened(server, tmp_path / "b") as store:
            other = recorded(store, "fine")  # what has to wait keeps nothing else from being sent
            assert store.trajectory(other).task == "fine"
            until(lambda: store.health()["unshipped_why"] is not None)  # it is tried behind the run
            assert "redacted in another way" in store.health()["unshipped_why"]
            store.flush()
            assert store.trajectory(lost).task == "[redacted:pattern]"
            assert store.health()["unshipped"] == 0
        with odograph.open(root) as store:
            assert store.trajectory(lost).status == "completed" and not store.damages()


def test_no_question_is_answered_without_what_this_process_recorded(tmp_path: Path) -> None:
    """Where the server takes nothing any more, here as it redacts in another way now, a question says so; so does `health`."""
    root = tmp_path / "s"
    with serving(root) as server, opened(server, tmp_path / "local") as store:
        recorded(store)
        assert store.count() == 1
        server.kill()
        shutil.rmtree(root)
        odograph.open(root, redact=["p[0-9]{4}w"]).close()
        server.start()
        id = recorded(store)
        for ask in (store.count, lambda: store.trajectory(id), store.flush):
            with pytest.raises(StoreError, match="redacts in another way"):
                ask()
            assert "redacts in another way" in store.health()["unshipped_why"]
        opened(server, tmp_path / "local").close()
        server.kill()
        with opened(server, tmp_path / "local") as other:  # what the server said last holds while it is away
            recorded(other, "p1234w")
        assert b"p1234w" not in b"".join(path.read_bytes() for path in tmp_path.glob("local/*/journal/*"))


def test_a_server_that_lost_the_end_of_a_journal_gets_it_again(tmp_path: Path) -> None:
    """Its disk was restored to what it was an hour ago, say, while a writer goes on."""
    with serving(tmp_path / "s") as server, opened(server, tmp_path / "local") as store:
        run = store.record(task="goes on")
        for n in range(5):
            run.note({"n": n})
        store.flush()
        assert store.backend._shipping.beat()  # else the sender behind the run waits longer and longer
        server.kill()
        run.note({"n": 5})
        assert not store.backend._shipping.beat()
        (waits,) = (tmp_path / "local").glob("*/journal/*")
        assert store.health()["unshipped"] == len(waits.read_bytes().splitlines(keepends=True)[-1])
        (file,) = (server.root / "journal").iterdir()
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:3]))
        server.start()
        assert [note.data for note in store.trajectory(run.id).notes] == [{"n": n} for n in range(6)]
        run.finish("done")


def _journal(folder: Path) -> tuple[str, str, bytes]:
    with odograph.open(folder) as store:
        id = recorded(store)
    (path,) = (folder / "journal").iterdir()
    return id, path.name.removesuffix(".jsonl"), path.read_bytes()


def test_a_server_chooses_no_code_that_runs_here(tmp_path: Path) -> None:
    """A store that a function redacts is read only, unless the client itself names that function: its module is not even loaded."""
    root, loaded = tmp_path / "s", tmp_path / "loaded"
    theirs = tmp_path / "theirs.py"
    theirs.write_text(f"open({str(loaded)!r}, 'w').close()\ndef shout(text):\n    return text.replace('secret', 'SECRET')\n")
    name = f"{theirs}:shout"
    with odograph.open(root, redact=name) as store:
        recorded(store)
    with serving(root) as server:
        loaded.unlink()
        with opened(server, tmp_path / "a") as store:
            assert store.count() == 1
            worker = reopened(pickle.loads(pickle.dumps(store.backend.place)))  # nor has a worker's store been given that name
            for write in (lambda: store.record(task="t"), lambda: store.add({"task": "t", "steps": []}), lambda: worker.sink):
                with pytest.raises(StoreError, match="runs here if redact= names it"):
                    write()
            worker.close()
        assert not loaded.exists()
        with opened(server, tmp_path / "a", redact=name) as store:
            assert store.trajectory(recorded(store, "a secret")).task == "a SECRET"


def test_hostile_requests_are_refused(server: Server, tmp_path: Path) -> None:
    """Whatever a client asks for, the server answers a sentence, and what is in the store stays."""
    line = Line(Served(server.url, RECORDS))
    before = sorted(p.name for p in server.root.rglob("*.jsonl"))
    data = "application/octet-stream"
    for path, more in (
        (("journal", "../../etc/passwd"), {"from": "0"}),
        (("journal", "a" * 19), {"from": "-1"}),
        (("journal", "a" * 19), {"from": "9" * 30}),
        (("journal", "a" * 19), {}),
        (("journal", "a" * 19), {"from": "0"}),
        (("journal", "a" * 19), {"from": "5"}),
    ):
        with pytest.raises(OdographError):
            line.post(*path, body=b"junk\n", kind=data, **more)
    for name, given in (
        ("count", None), ("count", [1]), ("count", [{"limit": -1}]), ("count", [{"status": ["odd"]}]), ("facts", [["x"]]), ("used", [{}]),
        ("count", [{"time_range": [2**80, None]}]), ("count", [{"ids": ["nothing"]}]), ("search", ["x", 2**70]), ("close", []),
        ("page", [{}, ["nothing", True], 0, 10]), ("read", [1, 2]), ("summaries", []), ("lake", []), ("catalog", []), ("raw", [[]]),
    ):  # fmt: skip
        with pytest.raises(OdographError):
            line.post("read", name, body=json.dumps(given).encode())
    with pytest.raises(OdographError):
        line.post("read", "count", body=b"\xff\x00")
    with pytest.raises(OdographError):
        line.post("read", "count", body=b"[{}]", kind="text/plain")
    assert sorted(p.name for p in server.root.rglob("*.jsonl")) == before
    with opened(server, tmp_path) as store:
        assert store.trajectory(recorded(store)).status == "completed"


# --- killed, and cut ------------------------------------------------------------------------------------------------------

#: Says each record on its output after it was acknowledged.
WRITER = """
import os, sys, time, odograph
store = odograph.open(sys.argv[1], local=sys.argv[2])
for n in range(int(sys.argv[3])):
    with store.record(task=f"{sys.argv[4]} {n}") as run:
        for k in range(10):
            with run.step(k) as step:
                step.llm_call(model="m", messages=[{"role": "user", "content": "x" * 300}] * 3, response="a" * 50)
                id = step.note({"n": k})
                os.write(1, (run.id + " " + id + chr(10)).encode())
            time.sleep(0.004)
store.close()
"""


class _Pipe(socketserver.BaseRequestHandler):
    """A connection through the relay, which is cut after so many bytes."""

    def handle(self) -> None:
        relay: Relay = self.server  # type: ignore[assignment]
        left = next(relay.lengths)
        with suppress(OSError), socket.create_connection(("127.0.0.1", relay.to), timeout=5) as there:

            def back() -> None:
                with suppress(OSError):
                    while data := there.recv(1 << 16):
                        self.request.sendall(data)
                with suppress(OSError):
                    self.request.shutdown(socket.SHUT_RDWR)

            threading.Thread(target=back, daemon=True).start()
            while data := self.request.recv(1 << 14):
                there.sendall(data[:left])
                left -= len(data)
                if left <= 0:
                    relay.cuts += 1
                    break
            with suppress(OSError):
                self.request.shutdown(socket.SHUT_RDWR)


class Relay(socketserver.ThreadingTCPServer):
    """A network that breaks: each connection is cut somewhere, in the middle of a body, too."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, to: int) -> None:
        super().__init__(("127.0.0.1", 0), _Pipe)
        self.to = to
        self.cuts = 0
        self.lengths = itertools.cycle((200, 10**9, 3_000, 20_000, 10**9, 200_000))
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


def soaked(tmp_path: Path, writers: int, runs: int, kills: int) -> None:
    """Writers on so many machines behind a network that breaks; server and writers are killed; all arrives once."""
    chance = random.Random(5)
    env = {**os.environ, "ODOGRAPH_TOKEN": RECORDS}
    with serving(tmp_path / "s") as server, Relay(server.port) as relay:
        url = f"http://127.0.0.1:{relay.server_address[1]}"

        def start(n: int) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", WRITER, url, str(tmp_path / f"machine{n}"), str(runs), str(n)]
            with (tmp_path / f"out{n}").open("wb") as file:
                return subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL, env=env)

        running = [start(n) for n in range(writers)]
        for kill in range(kills):
            until = (kill + chance.random()) / kills * writers * runs * 10
            while sum(p.read_bytes().count(b"\n") for p in tmp_path.glob("out*")) < until:
                if all(process.poll() is not None for process in running):
                    break
                time.sleep(0.02)
            server.kill()
            if kill % 2 == 0:
                chance.choice(running).kill()
            server.start()
        for process in running:
            process.wait()
        for n in range(writers):  # the next process sends what killed ones left
            with odograph.open(server.url, token=RECORDS, local=tmp_path / f"machine{n}") as store:
                store.flush()
                assert store.health()["unshipped"] == 0
            assert not list((tmp_path / f"machine{n}").glob("*/journal/*.jsonl")), n
        assert relay.cuts > 0
        relay.shutdown()
    said = [
        line.split() for out in sorted(tmp_path.glob("out*")) for line in out.read_text().splitlines() if line.count(" ") == 1
    ]
    assert len(said) > 20
    with odograph.open(tmp_path / "s") as store:
        wanted: dict[str, list[str]] = {}
        for run, id in said:
            wanted.setdefault(run, []).append(id)
        for run, ids in wanted.items():
            counts = Counter(r.id for r in store.trajectory(run).records)
            assert set(ids) <= set(counts)
        lines = Counter(line for p in (tmp_path / "s" / "journal").glob("*.jsonl") for line in p.read_bytes().splitlines())
        assert max(lines.values()) == 1  # no line came twice
        assert store.damages() == []
        for summary in store.summaries():
            t = store.trajectory(summary.id)
            assert (summary.steps, summary.llm_calls) == (len(t.steps), len(t.llm_calls))


def test_all_arrives_once_whatever_is_killed(tmp_path: Path) -> None:
    """Two machines, a network that breaks, a server and a writer that are killed: each acknowledged record is there once."""
    soaked(tmp_path, writers=2, runs=10, kills=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sixteen_machines(tmp_path: Path) -> None:
    """The same with 16 machines and eight kills."""
    soaked(tmp_path, writers=16, runs=150, kills=8)


def test_a_killed_client_loses_nothing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed process had acknowledged is sent by the next process, in as many pieces as it takes, and its open run is no
    run of a living writer."""
    monkeypatch.setattr("odograph.store.shipping._CHUNK", 1000)
    code = (
        "import os, signal, sys, odograph\n"
        "store = odograph.open(sys.argv[1], local=sys.argv[2])\n"
        "run = store.record(task='killed')\n"
        "for n in range(50): run.note({'n': n} if n else 'x' * 9000)\n"  # which is longer than a piece
        "os.write(1, run.id.encode())\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = {**os.environ, "ODOGRAPH_TOKEN": RECORDS}
    found = subprocess.run([sys.executable, "-c", code, server.url, str(tmp_path)], stdout=subprocess.PIPE, env=env, check=False)
    assert found.returncode == -signal.SIGKILL
    with opened(server, tmp_path) as store:
        until(lambda: store.health()["unshipped"] == 0)  # it asks for nothing and records nothing
        t = store.trajectory(found.stdout.decode())
        assert len(t.records) == 51 and t.status == "unterminated"


def test_a_server_hears_of_a_writer_that_has_nothing_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model may think for longer than a server waits for a silent writer."""
    monkeypatch.setattr("odograph.store.shipping._BEAT", 0.1)
    with serving(tmp_path / "s") as server, opened(server, tmp_path / "local") as store:
        run = store.record(task="thinks")
        store.flush()
        (file,) = (server.root / "journal").iterdir()
        for _ in range(2):
            os.utime(file, (0, 0))  # the server notes there when it last heard of the writer
            until(lambda: file.stat().st_mtime > 0)
        run.finish("done")


def test_a_fork_records_into_the_same_store(server: Server, tmp_path: Path) -> None:
    """A forked child has a journal, a sender and connections of its own, also where the parent was sending at that moment; both arrive."""
    code = (
        "import os, signal, sys, threading, odograph\n"
        "from odograph.store import shipping\n"
        "store = odograph.open(sys.argv[1], local=sys.argv[2])\n"
        "with store.record(task='parent', tags=['forked']): pass\n"
        "store.flush()\n"
        "(sender,) = shipping._all\n"
        "held, over = threading.Event(), threading.Event()\n"
        "def sends():\n"
        "    with sender._lock:\n"
        "        held.set()\n"
        "        over.wait()\n"
        "threading.Thread(target=sends, daemon=True).start()\n"
        "held.wait()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(200)  # not for ever\n"
        "    open_files = [f'/proc/self/fd/{fd}' for fd in os.listdir('/proc/self/fd')]\n"
        "    assert not [f for f in open_files if os.path.islink(f) and 'socket:' in os.readlink(f)]\n"
        "    with store.record(task='child', tags=['forked']): pass\n"
        "    store.close()\n"
        "    os._exit(0)\n"
        "assert os.wait()[1] == 0\n"
        "over.set()\n"
        "with store.record(task='parent again', tags=['forked']): pass\n"
    )
    env = {**os.environ, "ODOGRAPH_TOKEN": RECORDS}
    subprocess.run([sys.executable, "-c", code, server.url, str(tmp_path)], env=env, check=True)
    with opened(server, tmp_path) as store:
        assert sorted(s.task for s in store.summaries(tag="forked")) == ["child", "parent", "parent again"]
    assert not list(tmp_path.glob("*/journal/*.jsonl"))
