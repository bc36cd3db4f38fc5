"""Stores that can't be written: found before an agent runs, else told of at the end of the run, which goes as it would without us."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import odograph
from odograph.errors import StoreError
from odograph.proxy.service import Proxy
from tests.llm_server import Answer, LLMServer
from tests.proxy.test_record import QUICK, environment


def record(
    folder: Path, server: LLMServer, store: Path, *argv: str, bytes: int | None = None
) -> subprocess.CompletedProcess[str]:
    """`odograph record`; no file may get longer than so many bytes, as if the disk were full."""
    limit = "" if bytes is None else f"resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes}, {bytes}))"
    code = f"import resource, runpy; {limit}\nrunpy.run_module('odograph', run_name='__main__')"
    command = [sys.executable, "-B", "-c", code, "--store", str(store), "record", "--", *argv]
    env = environment(server, folder) | {"ODOGRAPH_STRICT": "0"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_no_agent_runs_whose_calls_can_not_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store below a file, or in a folder of somebody else's: one sentence, and the program is not started."""
    file = tmp_path / "file"
    file.touch()
    with LLMServer([]) as server:
        done = record(tmp_path, server, file / "s", "touch", str(tmp_path / "ran"))
        assert (done.returncode, done.stderr.count("\n")) == (1, 1) and "is no folder" in done.stderr
        assert not (tmp_path / "ran").exists()
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        monkeypatch.setattr(os, "access", lambda path, mode, **more: False)  # root may write everywhere
        with odograph.open(theirs / "s") as store, pytest.raises(StoreError, match="theirs' can't be written"):
            Proxy(store, [server.url]).__enter__()


@pytest.mark.parametrize(("bytes", "said"), [(100, "no call could be recorded"), (1200, "records could not be written")])
def test_a_disk_that_gets_full_changes_no_exit_status(tmp_path: Path, bytes: int, said: str) -> None:
    """The program gets its answers and has its own exit status; the last line says what could not be written."""
    with LLMServer([Answer(text="4" * 2000)]) as server:
        done = record(tmp_path, server, tmp_path / "s", sys.executable, "-c", QUICK + "\nraise SystemExit(3)", bytes=bytes)
    assert (done.returncode, done.stdout) == (3, "4" * 2000 + "\n")
    assert said in done.stderr.splitlines()[-1]
