"""What all tests share."""

from __future__ import annotations

import os
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest

import odograph

if find_spec("hypothesis"):  # not where old SDKs are tested
    from hypothesis import settings

    settings.register_profile("odograph", deadline=None)  # no test has a limit in seconds: a machine may be busy
    settings.load_profile("odograph")
os.environ.setdefault("ODOGRAPH_STRICT", "1")  # a fault in capture is an error here
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup make test` has it ignored, and so would the programs that tests start
# tests/training/test_trainers.py runs them where these are installed
collect_ignore = [folder for folder, has in (("trainers", "trl"), ("lightning", "agentlightning")) if not find_spec(has)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A slow test may hang for longer than the others (see `timeout` in pyproject.toml) before it is ended, if it says nothing itself."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture
def store(tmp_path: Path):
    with odograph.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def samples() -> Path:
    """Real sessions beside the checkout; tests that want them skip where they are not."""
    folder = Path(os.environ.get("ODOGRAPH_SAMPLES") or Path(__file__).parent.parent.parent / "shared" / "samples")
    if not folder.is_dir():
        pytest.skip("no samples beside this checkout")
    return folder
