"""`odograph serve`: a store for a team, as a process of its own: who may read, who may label, and who may nothing."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import odograph

pytest.importorskip("aiohttp")
WRITES, READS = "w" * 20, "r" * 20


@contextmanager
def served(root: Path, *flags: str, log: Any = subprocess.DEVNULL) -> Iterator[list[dict[str, str]]]:
    """The addresses that the command prints. `log`: what stderr goes to."""
    command = [sys.executable, "-m", "odograph", "--store", str(root), "serve", "--port", "0", "--json", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        yield [json.loads(process.stdout.readline()) for _ in range(max(1, sum(f.endswith("token") for f in flags)))]
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0


def asked(url: str, token: str | None = None, data: Any = None, given: dict[str, str] | None = None, **more: Any) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= given or {}
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {**headers, **({"Content-Type": "application/json"} if data is not None else {})})
    try:
        return int(urllib.request.urlopen(request, timeout=20, **more).status)
    except urllib.error.HTTPError as error:
        return error.code


def made(root: Path) -> str:
    with odograph.open(root) as store, store.record(task="t", agent="a") as run:
        run.finish("done")
    return run.id


def test_tokens_say_who_may_read_and_who_may_label(tmp_path: Path) -> None:
    """Nothing without a token but /health; a reading token reads; a label needs the other one."""
    id = made(tmp_path / "s")
    label = {"kind": "label", "technique": "care", "value": "good"}
    with served(tmp_path / "s", "--token", WRITES, "--read-token", READS) as printed:
        base = printed[0]["url"].partition("?")[0]
        assert [one["right"] for one in printed] == ["label", "read"]
        assert asked(base + "health") == 200
        assert asked(base + "api/list") == asked(base + "api/metrics") == asked(base + "api/list", "x" * 20) == 401
        for token, right in ((WRITES, "label"), (READS, "read")):  # a page shows no button that its token may not press
            request = urllib.request.Request(base + "api/info", headers={"Authorization": f"Bearer {token}"})
            assert json.load(urllib.request.urlopen(request, timeout=20))["right"] == right
        assert asked(base + "api/list", READS) == asked(base + "api/metrics", READS) == 200
        assert asked(base + f"api/t/{id}/annotate", READS, label) == 403
        assert asked(base + f"api/t/{id}/annotate", WRITES, label) == 200
    (found,) = odograph.open(tmp_path / "s").trajectory(id).labels
    assert (found.technique, found.value) == ("care", "good")


def test_a_request_that_is_no_http_is_one_line_without_its_token(tmp_path: Path) -> None:
    """A server that strangers reach prints no traceback for what they send, nor the header in which a key stands."""
    made(tmp_path / "s")
    with (tmp_path / "log").open("wb") as log, served(tmp_path / "s", "--token", WRITES, log=log) as printed:
        port = urlsplit(printed[0]["url"]).port
        for bad in (b"GET / HTTP/1.1\r\nauthorization: Bearer " + WRITES.encode() + b"\x1b\r\n\r\n", b"\x16\x03\x01 tls\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
                line.sendall(bad)
                assert b" 400 " in line.recv(1 << 16).partition(b"\r\n")[0]
    said = (tmp_path / "log").read_text()
    assert said.count(" 400 ") == 2 and "Traceback" not in said and WRITES not in said.replace(printed[0]["url"], "")


def test_a_proxy_says_who_labels(tmp_path: Path) -> None:
    """The name that a reverse proxy sends beside its token is the author, whatever the page says; without the token it counts for
    nothing, and a page of another origin writes nothing through the proxy."""
    id = made(tmp_path / "s")
    label = {"kind": "label", "technique": "care", "value": "good", "author": "somebody else"}
    with served(tmp_path / "s", "--token", WRITES, "--identity-header", "X-Forwarded-User") as printed:
        base = printed[0]["url"].partition("?")[0]
        place, ann = base + f"api/t/{id}/annotate", {"X-Forwarded-User": "ann"}
        assert asked(place, None, label, {**ann, "Origin": base.rstrip("/")}) == 401
        assert asked(place, WRITES, label, ann) == 403  # a browser says where a page comes from
        assert asked(place, WRITES, label, {**ann, "Origin": "http://evil.example"}) == 403
        assert asked(place, WRITES, label, {**ann, "Origin": base.rstrip("/")}) == 200
        assert asked(place, WRITES, label) == 200  # a program with the token itself
        cookie = {"Cookie": f"odograph-{base.rstrip('/').rpartition(':')[2]}={WRITES}", "Origin": base.rstrip("/")}
        assert asked(place, None, label, {**ann, **cookie}) == 200  # a browser that came past the proxy names nobody
        request = urllib.request.Request(base + "api/info", headers={"Authorization": f"Bearer {WRITES}", **ann})
        assert json.load(urllib.request.urlopen(request, timeout=20))["who"] == "ann"
    assert [one.author for one in odograph.open(tmp_path / "s").trajectory(id).labels] == [
        "ann",
        "somebody else",
        "somebody else",
    ]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--token", "short"], "16 or more characters"),
        (["--tls-key", "key.pem"], "--tls-cert"),
        (["--tls-cert", "gone.pem"], "gone.pem"),
        (["--port", "70000"], "65,535"),
        (["--identity-header", "X User"], "name of a header"),
    ],
)
def test_mistakes_are_a_sentence(flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that would be open to others, or can't start, says why and does not start."""
    from odograph.cli import main

    made(tmp_path / "s")
    assert main(["--store", str(tmp_path / "s"), "serve", *flags]) in (1, 2)
    assert said in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl, which makes the certificate")
def test_https(tmp_path: Path) -> None:
    """With a certificate the server speaks TLS, and nothing else."""
    made(tmp_path / "s")
    pem = tmp_path / "cert.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", pem, "-out", tmp_path / "c.pem"], check=True, capture_output=True)
    pem.write_bytes(pem.read_bytes() + (tmp_path / "c.pem").read_bytes())
    with served(tmp_path / "s", "--token", WRITES, "--tls-cert", str(pem)) as printed:
        url = printed[0]["url"]
        assert url.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(tmp_path / "c.pem"))
        assert asked(url.partition("?")[0] + "api/list", WRITES, context=trusted) == 200
