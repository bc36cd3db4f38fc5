"""The viewer's server over real sockets: what it answers, and what it lets nobody do."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

import odograph
from odograph.viewer.answers import Answers
from odograph.viewer.live import Live
from tests.waiting import until

pytest.importorskip("aiohttp")
from odograph.access import Access
from odograph.errors import InvalidInput
from tests.viewer.scaffold import Viewer, viewing


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of thirty trajectories in groups of three."""
    where = tmp_path_factory.mktemp("viewer") / "store"
    with odograph.open(where) as store:
        for n in range(30):
            with store.record(
                task=f"question {n}", agent=f"a{n % 2}", model="m", group=f"g{n // 3}", tags=["even"] * (n % 2 == 0)
            ) as run:
                with run.step({"n": n}) as step:
                    step.llm_call(model="m", messages=[{"role": "user", "content": f"needle{n} in hay"}], response=f"answer {n}")
                    step.action("look", {"at": n}, "seen", ok=n % 5 > 0)
                if n % 4:
                    run.reward(n / 10, name="score")
                run.finish(n)
    return where


@pytest.fixture(scope="module")
def viewer(folder: Path) -> Iterator[Viewer]:
    with viewing(folder) as running:
        yield running


@pytest.fixture(scope="module")
def newest(viewer: Viewer) -> str:
    return str(viewer.get("/api/list").json["rows"][0]["id"])


# --- what it answers ----------------------------------------------------------------------------------------------------


def test_a_list_is_sorted_filtered_and_given_in_windows(viewer: Viewer) -> None:
    """A page asks for any window of any order; unknown rewards stand last; the total is that of the filters."""
    rows = viewer.get("/api/list?sort=-reward&offset=2&size=3").json
    assert rows["total"] == 30 and [r["reward"] for r in rows["rows"]] == [2.6, 2.5, 2.3]
    last = viewer.get("/api/list?sort=reward&offset=22&size=100").json["rows"]
    assert [r["reward"] for r in last] == [None] * 8
    assert viewer.get("/api/list").json["rows"][0]["task"] == "question 29"
    found = viewer.get("/api/list?agent=a1&min_reward=2").json
    assert found["total"] == len(found["rows"]) == 5
    assert viewer.get("/api/list?text=needle7").json["total"] == 1
    assert viewer.get("/api/list?status=completed&status=failed&tag=even").json["total"] == 15


def test_counts_and_groups_are_those_of_the_filters(viewer: Viewer) -> None:
    """Each value of a filter has its count; a folded list has a row for each group with its rewards."""
    counts = viewer.get("/api/counts?tag=even").json
    assert counts["agent"] == [["a0", 15]] and counts["status"] == [["completed", 15]] and counts["tag"] == [["even", 15]]
    folded = viewer.get("/api/list?fold=group&sort=-reward&size=2").json
    assert folded["total"] == 10
    assert [(r["group"], r["trajectories"], r["rewarded"], r["max"]) for r in folded["rows"]] == [
        ("g9", 3, 2, 2.9),
        ("g8", 3, 2, 2.6),
    ]


def test_a_trajectory_is_a_head_and_parts(viewer: Viewer, newest: str) -> None:
    """The head says how many entries there are, and in which parts; each record is there as raw JSON."""
    head = viewer.get(f"/api/t/{newest[-8:]}").json
    entries = [e for n in range(len(head["firsts"])) for e in viewer.get(f"/api/t/{newest}/part/{n}").json]
    assert [e["n"] for e in entries] == list(range(head["entries"]))
    assert [e["kind"] for e in entries] == ["step", "observation", "message", "call", "answer", "action", "reward", "outcome"]
    record = viewer.get(f"/api/t/{newest}/record/{entries[4]['record']}").json
    assert record["kind"] == "llm_call" and record["response"] == "answer 29"
    assert viewer.get(f"/api/t/{newest}/part/99").status == 404


def test_a_long_text_is_cut_in_its_part_and_whole_by_itself(tmp_path: Path) -> None:
    """A result of a million characters costs a page a few thousand until somebody asks for all."""
    with odograph.open(tmp_path) as store, store.record() as run:
        run.step().action("read", {}, "x" * 1_000_000)
    with viewing(tmp_path) as v:
        head = v.get(f"/api/t/{run.id}").json
        part = v.get(f"/api/t/{run.id}/part/0")
        assert head["cut"] == [1] and len(part.body) < 20_000
        assert part.json[1]["about"]["result"]["$cut"] == 1_000_000
        assert v.get(f"/api/t/{run.id}/whole/1").json["about"]["result"] == "x" * 1_000_000


def test_what_is_recorded_meanwhile_is_there_and_is_told(tmp_path: Path) -> None:
    """A page that listens is told the id of a new run, and the next look has the run's newest entries."""
    with odograph.open(tmp_path) as store:
        with store.record(task="first"):
            pass
        with viewing(tmp_path) as v:
            line = http.client.HTTPConnection("127.0.0.1", v.port, timeout=20)
            line.request("GET", "/api/live", headers={"Authorization": f"Bearer {v.token}"})
            events = line.getresponse()
            with store.record(task="second") as run:
                run.step("seen")
                told = (line for line in islice(events, 20) if line.startswith(b"data:"))  # others show that the stream goes on
                said = next(told)
                assert json.loads(said[5:]) == [run.id]
                assert v.get(f"/api/t/{run.id}").json["status"] == "running"
            until(lambda: v.get(f"/api/t/{run.id}").json["status"] == "completed", v.process)
            line.close()


def test_who_listens_is_told_of_all_that_comes(store: odograph.Store) -> None:
    """From the moment at which the listener has the line, however long the first look at the store takes."""

    async def main() -> None:
        async with Live(store).listening() as turns:
            with store.record(task="at once") as run:
                run.note("x")
            assert await anext(turns) == [run.id]

    asyncio.run(main())


def test_the_pages_name_a_store_as_it_was_opened(tmp_path: Path) -> None:
    """A folder by its own name, a store in memory as `memory:`, and not by the folder that it has on this machine."""
    with odograph.open(tmp_path / "runs") as here, odograph.open("memory:") as held:
        assert [Answers(one).info()["store"] for one in (here, held)] == ["runs", "memory:"]


def test_a_mistake_is_one_sentence(viewer: Viewer, newest: str) -> None:
    """Unknown ids, filters that can't be meant and unknown pages are answered with a sentence and the right status."""
    for path, status, words in (
        ("/api/list?sort=rewrd", 400, "reward"),
        ("/api/list?min_reward=much", 400, "min_reward is a number"),
        ("/api/list?offset=-1", 400, "offset is a whole number"),
        ("/api/t/none-such", 404, "no trajectory"),
        (f"/api/t/{newest}/record/none-such", 404, "no record"),
        ("/api/none", 404, "nothing here"),
    ):
        reply = viewer.get(path)
        assert (reply.status, words in reply.json["error"]) == (status, True), reply


# --- what it lets nobody do ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example:{port}", "10.0.0.1"]
)
def test_a_name_of_another_host_is_refused(viewer: Viewer, host: str) -> None:
    """DNS rebinding: a page of the web that reaches 127.0.0.1 by its own name gets nothing, not even the empty page."""
    for path in ("/", "/app.js", "/api/info", "/api/live", "/api/none"):
        assert viewer.get(path, host=host.format(port=viewer.port)).status == 403


def test_no_host_and_two_hosts_are_refused(viewer: Viewer) -> None:
    """A request names its host once."""
    token = f"Authorization: Bearer {viewer.token}\r\n"
    assert viewer.raw(f"GET /api/info HTTP/1.0\r\n{token}\r\n".encode()).status == 403
    twice = f"Host: 127.0.0.1\r\nHost: evil.example\r\n{token}"
    assert viewer.raw(f"GET /api/info HTTP/1.1\r\n{twice}Connection: close\r\n\r\n".encode()).status in (400, 403)


def test_the_names_of_this_machine_are_answered(viewer: Viewer) -> None:
    """localhost, 127.0.0.1 and [::1], with and without a port."""
    for host in ("localhost", f"localhost:{viewer.port}", "127.0.0.1", f"[::1]:{viewer.port}", "LOCALHOST"):
        assert viewer.get("/api/info", host=host).status == 200


def test_nothing_of_the_store_is_given_without_the_token(viewer: Viewer, newest: str) -> None:
    """Other users and programs of the machine reach the port, too: every answer, and the stream, needs the token."""
    for path in ("/api/info", "/api/list", "/api/counts", "/api/live", f"/api/t/{newest}", "/api/none"):
        assert viewer.get(path, token=False).status == 401
        assert viewer.get(path, token=False, Authorization="Bearer " + "x" * 32).status == 401
        assert viewer.get(path + f"?token={viewer.token}", token=False).status == 401  # only a page takes one from its URL
    assert (
        viewer.post(
            f"/api/t/{newest}/annotate", {"kind": "note", "data": 1}, token=False, Origin=f"http://127.0.0.1:{viewer.port}"
        ).status
        == 401
    )


def test_the_address_gives_a_cookie_that_scripts_and_other_sites_never_have(viewer: Viewer) -> None:
    """The printed address sets an HttpOnly, SameSite=Strict cookie of this port; a wrong token sets none."""
    reply = viewer.get(f"/?token={viewer.token}", token=False)
    cookie = reply.header("set-cookie") or ""
    assert cookie.startswith(f"odograph-{viewer.port}={viewer.token};") and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert viewer.get("/api/info", token=False, Cookie=cookie.partition(";")[0]).status == 200
    assert viewer.get("/?token=wrong", token=False).header("set-cookie") is None


def test_requests_of_other_origins_are_refused(viewer: Viewer) -> None:
    """A page of another origin, or of another port of localhost, reads and writes nothing; no answer allows an origin (CORS)."""
    own = f"http://127.0.0.1:{viewer.port}"
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{viewer.port + 1}"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ):
        assert viewer.get("/api/info", **headers).status == 403
        assert viewer.get("/api/live", **headers).status == 403
    good = viewer.get("/api/info", Origin=own, Sec_Fetch_Site="same-origin")
    assert good.status == 200 and not any(k.lower().startswith("access-control") for k, _ in good.headers)


def test_a_label_needs_json_and_the_same_origin(folder: Path, viewer: Viewer, newest: str) -> None:
    """CSRF: a form, a request of no stated origin with the cookie, and a GET change nothing; the page's own request does."""
    path, label = f"/api/t/{newest}/annotate", {"kind": "label", "technique": "quality", "score": 0.5, "rationale": "fine"}
    cookie = {"Cookie": f"odograph-{viewer.port}={viewer.token}"}
    own = {"Origin": f"http://127.0.0.1:{viewer.port}", "Sec_Fetch_Site": "same-origin"}
    assert viewer.post(path, label, token=False, **cookie).status == 403
    assert viewer.post(path, label, token=False, **cookie, Origin="https://evil.example").status == 403
    assert viewer.post(path, b"kind=label", token=False, kind="application/x-www-form-urlencoded", **cookie, **own).status == 415
    assert viewer.post(path, label, token=False, kind="text/plain", **cookie, **own).status == 415
    assert viewer.get(path, token=False, **cookie).status in (404, 405)
    with odograph.open(folder) as store:
        assert store.trajectory(newest).labels == []
        assert viewer.post(path, label, token=False, **cookie, **own).status == 200
        (found,) = store.trajectory(newest).labels
        assert (found.technique, found.score, found.rationale) == ("quality", 0.5, "fine")


def test_a_wrong_label_is_refused(viewer: Viewer, newest: str) -> None:
    """A label has a technique and known fields; anything else is answered with a sentence, and nothing is written."""
    for value in (
        [],
        {"kind": "reward", "value": 1},
        {"kind": "label"},
        {"kind": "label", "technique": 1},
        {"kind": "label", "technique": "a", "scor": 1},
    ):
        assert viewer.post(f"/api/t/{newest}/annotate", value).status == 400, value
    assert viewer.post(f"/api/t/{newest}/annotate", b"{").status == 400
    assert viewer.post("/api/t/none-such/annotate", {"kind": "note", "data": 1}).status == 404


def test_read_only_writes_nothing(folder: Path, newest: str) -> None:
    """With --read-only, the token reads and nothing else."""
    with viewing(folder, "--read-only") as v:
        assert v.get("/api/info").json["right"] == "read"
        assert v.post(f"/api/t/{newest}/annotate", {"kind": "note", "data": 1}).status == 403


@pytest.mark.parametrize(
    "path",
    ["/../../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd", "/..%5c..%5cetc", "/api/t/..%2f..%2fetc%2fpasswd",
     "/api/t/%252e%252e%252fetc", "/api/t/..%5c..%5cx/part/0", "/assets/style.css", "/index.html", "/answers.py", "//etc/passwd", "/api/t/x/record/..%2f..%2fx"],
)  # fmt: skip
def test_a_path_is_never_a_file(viewer: Viewer, path: str) -> None:
    """Path traversal in all spellings: ids are looked up in the catalog, and there is no other file than those of the page."""
    reply = viewer.get(path)
    assert reply.status in (400, 404) and b"root:" not in reply.body


def test_pages_and_answers_carry_their_policies(viewer: Viewer) -> None:
    """The page runs its own scripts and reaches its own server; an answer that is opened as a page is a sealed box."""
    page = viewer.get("/").header("content-security-policy") or ""
    assert page.startswith("default-src 'none'; script-src 'self'") and "unsafe" not in page and "http" not in page
    for path in ("/api/info", "/api/none", "/style.css"):
        reply = viewer.get(path)
        assert "default-src 'none'" in (reply.header("content-security-policy") or "")
        assert reply.header("x-content-type-options") == "nosniff"
        assert reply.header("referrer-policy") == "no-referrer"
        assert reply.header("x-frame-options") == "DENY"


def test_requests_are_bounded(viewer: Viewer, newest: str) -> None:
    """Large bodies, long lines and other methods are refused; the server goes on."""
    assert viewer.post(f"/api/t/{newest}/annotate", {"kind": "note", "data": "x" * (1 << 20)}).status == 413
    assert viewer.get("/api/list?text=" + "x" * 20_000).status in (400, 414)
    assert viewer.get("/api/info", X_Long="x" * 20_000).status in (400, 431)
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
        request = (
            f"{method} /api/info HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {viewer.token}\r\nConnection: close\r\n\r\n"
        )
        assert viewer.raw(request.encode()).status == 405
    assert viewer.get("/api/list?size=100000").json["rows"][-1]["task"] == "question 0"
    assert viewer.get("/api/info").status == 200


def test_tokens_and_searches_are_in_no_log(folder: Path) -> None:
    """Neither stdout behind the address nor stderr holds a token or a query, whatever is asked."""
    with viewing(folder) as v:
        v.get(f"/?token={v.token}", token=False)
        v.get("/api/list?text=secretword")
        v.get("/api/list?sort=secretword")
    assert v.process.stdout is not None and v.process.stderr is not None
    said = v.process.stdout.read() + v.process.stderr.read()
    assert v.token not in said and "secretword" not in said


def test_an_access_log_has_no_query() -> None:
    """The line that a server logs for a request has its path and nothing after the question mark."""
    script = (
        "import asyncio, logging, sys\n"
        "from odograph.access import Access, listen\n"
        "from odograph.viewer.serving import serve\n"
        "from odograph.viewer.web import Route, answer\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stderr)\n"
        "async def hello(request): return answer({'a': 1})\n"
        "at = listen('127.0.0.1', 0)\n"
        "access = Access.of('127.0.0.1', at.getsockname()[1], token='t' * 20)\n"
        "ready = lambda: print(at.getsockname()[1], flush=True)\n"
        "asyncio.run(serve([Route('GET', '/hello', hello, 'read')], access, at, ready=ready, log_requests=True))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    v = Viewer(f"http://127.0.0.1:{int(process.stdout.readline())}/?token={'t' * 20}", process)
    assert v.get("/hello?q=secretword").json == {"a": 1}
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 0
    assert "GET /hello 200" in said and "secretword" not in said and "tttt" not in said


def test_beyond_loopback_a_token_must_be_given() -> None:
    """A server that other machines reach starts with a token of some length, or not at all."""
    with pytest.raises(InvalidInput, match="a token is needed"):
        Access.of("0.0.0.0", 80, token=None)
    with pytest.raises(InvalidInput, match="16 or more"):
        Access.of("0.0.0.0", 80, token="short")
    assert Access.of("127.0.0.1", 80, token=None).tokens


def test_the_command_says_what_it_needs(tmp_path: Path) -> None:
    """A missing store, an unknown id and a wrong port end in one sentence."""
    for arguments, words in (
        (["--store", str(tmp_path / "none")], "no store at"),
        (["--port", "99999", "--store", str(tmp_path)], "--port: a whole number from 0 to 65,535 was expected"),
        (["none-such", "--store", str(tmp_path)], "no trajectory 'none-such'"),
    ):
        done = subprocess.run([sys.executable, "-m", "odograph", "view", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode in (1, 2) and words in done.stderr and "Traceback" not in done.stderr
