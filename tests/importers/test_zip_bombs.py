"""A zip that unpacks to far more than any log costs an error that says so, not the memory."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import odograph


def test_a_zip_bomb_is_refused_with_its_size(tmp_path: Path) -> None:
    """One small sample is imported; one that unpacks to 64 MB of blanks from 64 KB is named with its size and the bound."""
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as log:
        log.writestr("header.json", json.dumps({"version": 2, "status": "success", "eval": {"run_id": "r", "task": "t"}}))
        good = {"id": "a", "epoch": 1, "input": "q", "messages": [{"role": "user", "content": "q"}]}
        log.writestr("samples/a_epoch_1.json", json.dumps(good))
        log.writestr("samples/b_epoch_1.json", "[" + " " * 64_000_000 + "]")
    with odograph.open("memory:") as store:
        report = store.import_sessions(path)
        said = str(report.warnings) + str(report.failed)
        assert "expected at most" in said
        assert "64,000,002" in said
        assert sum(1 for _ in store.trajectories()) <= 1
