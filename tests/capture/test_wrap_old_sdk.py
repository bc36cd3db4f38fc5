"""`wrap` on the SDKs of before httpx2: the same tests, run by an interpreter that has those."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    "name", ["test_wrap.py", "test_wrap_wire.py", pytest.param("test_wrap_calls.py", marks=pytest.mark.slow)]
)
def test_old_sdks(name: str) -> None:
    """Clients of older SDKs, which stand on httpx, are recorded just as those of new ones.

    The interpreter: `ODOGRAPH_OLD_SDK_PYTHON`, else `.venv-old`, which `make test` sets up.
    """
    python = Path(os.environ.get("ODOGRAPH_OLD_SDK_PYTHON") or ROOT / ".venv-old" / "bin" / "python")
    if not python.exists():
        pytest.skip(f"no interpreter with old SDKs at {python}")
    about = "import sys, anthropic, openai; print([m for m in ('httpx', 'httpx2') if m in sys.modules])"
    args = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(ROOT / "tests" / "capture" / name)]
    if sys.version_info >= (3, 14):  # openai 1.99 can't take apart what such a stream sends there
        args += ["-k", "not (errors_in_a_stream and responses)"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    found = subprocess.run([str(python), "-c", about], capture_output=True, text=True, env=env, check=True).stdout
    assert found.strip() == "['httpx']"
    done = subprocess.run(args, capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
