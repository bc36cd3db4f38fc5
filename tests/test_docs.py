"""The documentation is true: its snippets run, public names are named, links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.importers import NAMES as IMPORTERS
from odograph.training.formats import NAMES as EXPORTERS
from tests.hub_server import HubServer
from tests.llm_server import Answer, LLMServer

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SNIPPETS = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))
    if ("from trl" not in code or find_spec("trl"))
    and "for t in store.trajectories(group" not in code
    and "rows = odograph.samples(store" not in code
]


def answer(request: dict[str, Any]) -> Answer:
    """4; a judge's question gets its scores."""
    if "response_format" not in request:
        return Answer(text="4")
    ids = re.findall(r'<trajectory id="(\d+)">', str(request["messages"][-1]["content"]))
    scores = [{"trajectory_id": id, "explanation": "fine", "score": 0.5} for id in ids]
    return Answer(text=json.dumps({"scores": scores} if ids else {"score": 0.5}))


@pytest.mark.parametrize("code", SNIPPETS)
def test_snippets_run(code: str, tmp_path: Path) -> None:
    """Every Python snippet of the documentation runs as it stands; where it asks a model, one answers; where it uploads, a Hub takes it."""
    script = tmp_path / "snippet.py"
    script.write_text(code)
    with LLMServer(answer) as server, HubServer() as hub:
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "ODOGRAPH_STORE": str(tmp_path / "s"),
                "OPENAI_BASE_URL": server.url + "/v1",
                "OPENAI_API_KEY": "x",
                "HF_ENDPOINT": hub.url,
                "HF_TOKEN": hub.token,
                "HF_HOME": str(tmp_path / "hf"),
                "HF_HUB_DISABLE_XET": "1",
            },
        )
    assert done.returncode == 0, done.stderr


def test_links_lead_somewhere() -> None:
    """Every relative link of the documentation has a file."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)


def test_public_names_are_complete_sorted_and_documented() -> None:
    """`odograph.__all__` is what can be imported, in order, and the documentation speaks of each function in it."""
    assert odograph.__all__ == sorted(odograph.__all__)
    text = "".join(page.read_text() for page in PAGES)
    for name in odograph.__all__:
        assert getattr(odograph, name).__doc__, name
        if name[0].islower():
            assert f"{name}(" in text or f"odograph.{name}" in text, name


def test_formats_are_documented() -> None:
    """Each importer and exporter has its line."""
    importing, exports = (ROOT / "docs/importing.md").read_text(), (ROOT / "docs/exports.md").read_text()
    assert all(f"`{name}`" in importing for name in IMPORTERS)
    assert all(f"`{name}`" in exports for name in EXPORTERS)


def test_extras_exist_and_are_documented() -> None:
    """Each extra that an error tells to install is one of the package's, and each of the package's has its line."""
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    code = "".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r'MissingExtra\([^,()]+, "(\w+)"\)', code)) | set(re.findall(r"odograph\[(\w+)\]", code))
    assert len(named) > 8 and named <= extras
    text = (ROOT / "docs/dependencies.md").read_text()
    assert all(f"(`{name}`)" in text for name in extras - {"all", "dev"})


def test_the_agents_page_is_short() -> None:
    """AGENTS.md stays under 400 words."""
    assert len((ROOT / "AGENTS.md").read_text().split()) < 400
