"""`export_to_huggingface` and `Dataset.upload`: against a server that speaks the Hub's protocol, over real sockets."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.errors import InvalidInput, NotFound, UploadError
from tests.hub_server import HubServer

from .made import call, chat

pytest.importorskip("huggingface_hub")
pytest.importorskip("pyarrow")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """The server, as $HF_ENDPOINT with a token that may write; a cache of its own; Git LFS, not Xet."""
    with HubServer(readers=("hf_reader",)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", server.token)
        for name, value in {
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": False,
            "HF_TOKEN_PATH": str(tmp_path / "no-token"),
        }.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        yield server


@pytest.fixture
def trades(store: odograph.Store) -> odograph.Store:
    """Twelve trades: every third without a known reward, the others worth 0.0 to 1.1."""
    for n in range(12):
        step = {
            "contexts": [{"provider": "market_data", "data": {"price": n}, "purpose": "to decide"}],
            "llm_calls": [call(chat("You trade.", f"Buy {n}?"), "yes")],
        }
        rewards = [] if n % 3 == 0 else [{"value": n / 10}]
        store.add({"task": f"trade {n}", "agent": "trader", "model": "m", "steps": [step], "rewards": rewards})
    return store


def loaded(hub: HubServer, repo: str, tmp_path: Path, **more: Any) -> Any:
    """What `datasets.load_dataset(repo)` gives in a process whose Hub is the server, and the same streamed."""
    script = (
        "import json, os, datasets\n"
        f"options = {more!r}\n"
        f"d = datasets.load_dataset({repo!r}, **options)\n"
        f"s = datasets.load_dataset({repo!r}, streaming=True, **options)\n"
        "print(json.dumps([{k: v.to_list() for k, v in d.items()}, {k: list(v) for k, v in s.items()}]), flush=True)\n"
        "os._exit(0)\n"  # threads of a streaming read can end the interpreter with SIGABRT when it closes
    )
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stderr[-3000:], [entry for entry in hub.log if entry[2] >= 400])
    return json.loads(done.stdout)


def test_the_seeds_export_filters_and_has_the_promised_rows(trades: odograph.Store, tmp_path: Path) -> None:
    """`min_reward`, `max_trajectories`, `time_range`, `format` and `include_metadata` do what their names say."""
    found = odograph.export_to_huggingface(
        trades, tmp_path / "o", min_reward=0.5, max_trajectories=3, time_range="7d", format="jsonl", include_metadata=False
    )
    rows = [json.loads(line) for line in (found.path / "data/train.jsonl").read_text().splitlines()]
    assert [r["reward"] for r in rows] == [0.5, 0.7, 0.8]
    assert set(rows[0]) == {"prompt", "response", "reward", "context"}
    assert found.manifest["asked"] == {"min_reward": 0.5, "limit": 3, "time_range": "7d"}
    with_metadata = odograph.export_to_huggingface(trades, tmp_path / "all", time_range="7d")
    assert with_metadata.manifest["rows"] == 12
    assert [f["path"] for f in with_metadata.manifest["files"]] == ["data/train-00000-of-00001.parquet"]


def test_an_uploaded_dataset_is_what_was_exported_and_loads_by_its_name(
    trades: odograph.Store, hub: HubServer, tmp_path: Path
) -> None:
    """Every byte arrives, in one commit; the repository is private; `load_dataset("org/name")` gives the rows, streaming too."""
    found = odograph.export_to_huggingface(trades, tmp_path / "o", min_reward=0.1, splits={"train": 0.6, "test": 0.4})
    url = found.upload("org/babylon-trading-trajectories")
    name = "org/babylon-trading-trajectories"
    assert hub.repos[name].visibility == "private"
    assert len(hub.repos[name].commits) == 1
    assert url == f"{hub.url}/datasets/{name}/commit/{hub.repos[name].commits[0]['sha']}"
    local = {p.relative_to(found.path).as_posix(): p.read_bytes() for p in found.path.rglob("*") if p.is_file()}
    assert hub.files(name) == local
    assert set(hub.objects) >= {f["sha256"] for f in found.manifest["files"] if f["bytes"] > hub.lfs_over}
    assert hub.objects  # some of it went through LFS
    whole, streamed = loaded(hub, name, tmp_path)
    assert whole == streamed
    assert {split: len(rows) for split, rows in whole.items()} == found.manifest["rows_by_split"]
    assert sorted(r["reward"] for rows in whole.values() for r in rows) == [n / 10 for n in range(12) if n % 3]


def test_a_later_upload_replaces_the_earlier_one(trades: odograph.Store, hub: HubServer, tmp_path: Path) -> None:
    """What the new export has no more goes away in the same commit: no row is there twice. Uploading again changes nothing."""
    first = odograph.export_to_huggingface(trades, tmp_path / "a", splits={"train": 0.5, "test": 0.5})
    first.upload("org/d")
    second = odograph.export_to_huggingface(trades, tmp_path / "b", min_reward=0.5)
    second.upload("org/d")
    assert set(hub.files("org/d")) == {"README.md", "manifest.json", "data/train-00000-of-00001.parquet"}
    before = hub.repos["org/d"].sha("main")
    second.upload("org/d")
    assert hub.repos["org/d"].sha("main") == before


def test_a_revision_of_its_own_and_public_by_request(trades: odograph.Store, hub: HubServer, tmp_path: Path) -> None:
    """`revision` is a branch, made where there is none, and main stays; `private=False` makes a public repository."""
    found = odograph.export_to_huggingface(trades, tmp_path / "o")
    found.upload("org/d", revision="v2", private=False, message="second")
    assert hub.repos["org/d"].visibility == "public"
    assert hub.files("org/d") == {}
    assert set(hub.files("org/d", "v2")) == {"README.md", "manifest.json", "data/train-00000-of-00001.parquet"}
    assert hub.repos["org/d"].commits[0]["summary"] == "second"
    whole, _ = loaded(hub, "org/d", tmp_path, revision="v2")
    assert len(whole["train"]) == 12


def test_large_files_go_in_parts(trades: odograph.Store, hub: HubServer, tmp_path: Path) -> None:
    """Where the Hub asks for parts, the parts come together to the file."""
    hub.part_size = 1024
    found = odograph.export_to_huggingface(trades, tmp_path / "o")
    found.upload("org/d")
    assert sum(1 for method, path, _ in hub.log if method == "PUT" and path.startswith("/lfs/")) > 2
    assert (
        hub.files("org/d")["data/train-00000-of-00001.parquet"] == (found.path / "data/train-00000-of-00001.parquet").read_bytes()
    )


def test_data_of_somebody_else_is_not_mixed_with_ours(trades: odograph.Store, hub: HubServer, tmp_path: Path) -> None:
    """A repository whose data no export brought is refused, and stays as it was; other files in it are left alone."""
    found = odograph.export_to_huggingface(trades, tmp_path / "o")
    found.upload("org/d")
    hub.repos["org/d"].branches["main"]["logo.png"] = b"x"
    found.upload("org/d")
    assert hub.files("org/d")["logo.png"] == b"x"
    hub.repos["org/d"].branches["main"]["data/mine.parquet"] = b"x"
    before = dict(hub.files("org/d"))
    with pytest.raises(InvalidInput, match=r"'org/d' has data that no export brought: 'data/mine.parquet'"):
        found.upload("org/d")
    assert hub.files("org/d") == before


def test_what_goes_wrong_is_one_sentence(
    trades: odograph.Store, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token, a wrong one, one that may not write, a wrong name, no network: each is said; no token is ever in it."""
    found = odograph.export_to_huggingface(trades, tmp_path / "o")
    said = []

    def refused(kind: type[Exception], words: str, repo: str = "org/d", **more: Any) -> None:
        with pytest.raises(kind, match=words) as caught:
            found.upload(repo, **more)
        said.append(str(caught.value))

    refused(UploadError, "does not know the token", token="hf_unknown_secret")
    refused(UploadError, "the token may not write to 'org/d'", token="hf_reader")
    refused(UploadError, "the token may not write to 'other/d'", repo="other/d")
    for name in ("a/b/c", "org/..", "org/sp ace", ""):
        refused(InvalidInput, "is no name of a repository", repo=name)
    hub.corrupt = True
    refused(UploadError, "422")
    hub.corrupt = False
    assert "data/train-00000-of-00001.parquet" not in hub.files("org/d")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused(UploadError, "http://127.0.0.1:9 can't be reached")
    monkeypatch.delenv("HF_TOKEN")
    refused(UploadError, "no token for the Hugging Face Hub")
    assert all("\n" not in text and "hf_" not in text for text in said)


def test_only_what_was_exported_is_uploaded(trades: odograph.Store, hub: HubServer, tmp_path: Path) -> None:
    """A file that was changed since, or is gone, is refused before anything is sent; a manifest or folder of no export, too."""
    found = odograph.export_to_huggingface(trades, tmp_path / "o", format="jsonl")
    (found.path / "notes.txt").write_text("private")
    found.upload("org/d")
    assert "notes.txt" not in hub.files("org/d")
    (found.path / "data/train.jsonl").write_text("{}")
    sent = len(hub.log)
    with pytest.raises(InvalidInput, match="not as it was exported"):
        found.upload("org/d")
    (found.path / "data/train.jsonl").unlink()
    with pytest.raises(InvalidInput, match="can't be read"):
        odograph.Dataset(found.path).upload("org/d")
    (found.path / "manifest.json").write_text('{"files": [{"rows": 1}]}')
    with pytest.raises(InvalidInput, match="lists a file without a path"):
        odograph.Dataset(found.path).upload("org/d")
    (tmp_path / "key").write_text("private")
    listed = {"path": "../key", "bytes": 7, "sha256": hashlib.sha256(b"private").hexdigest()}
    (found.path / "manifest.json").write_text(json.dumps({"files": [listed]}))
    with pytest.raises(InvalidInput, match=r"a file outside of the folder: '\.\./key'"):
        odograph.Dataset(found.path).upload("org/d")
    assert len(hub.log) == sent
    with pytest.raises(NotFound, match="no export in"):
        odograph.Dataset(tmp_path)


def test_the_command_exports_and_uploads(trades: odograph.Store, hub: HubServer, tmp_path: Path) -> None:
    """`odograph export --upload org/d`: the manifest with the URL on stdout, nothing on stderr; a mistake is one line."""
    env = {**os.environ, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "odograph", "--store", str(trades.root), "export", "-o", str(tmp_path / "o")]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], env=env, capture_output=True, text=True, check=False)

    done = run("--to", "hf", "--max-shard-rows", "5", "--upload", "org/d", "--revision", "r1", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["url"].startswith(f"{hub.url}/datasets/org/d/commit/")
    assert sorted(hub.files("org/d", "r1"))[1:4] == [f"data/train-{n:05d}-of-00003.parquet" for n in range(3)]
    traces = run("--to", "hf-traces", "--upload", "org/t", "--public")
    assert traces.returncode == 0, traces.stderr
    assert len([p for p in hub.files("org/t") if p.startswith("data/train-")]) == 12
    env["HF_TOKEN"] = "hf_wrong"
    wrong = run("--to", "hf", "--upload", "org/d")
    assert wrong.returncode == 1
    assert wrong.stderr.count("\n") == 1
    assert "does not know the token" in wrong.stderr
    assert run("--to", "hf", "--public").stderr == "odograph: --public goes with --upload, which is not given\n"
