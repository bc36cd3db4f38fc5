"""The documentation is true: its snippets run, public names are named, links lead somewhere."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph.cli import main as cli
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
    if page.name != "README.md" and ("from trl" not in code or find_spec("trl"))
]
README = (ROOT / "README.md").read_text()


def answer(request: dict[str, Any]) -> Answer:
    """4; a judge's question gets its scores."""
    if "prompt" in request:  # completions, of an engine that tells its ids
        choice = {
            "index": 0,
            "text": "4 m",
            "token_ids": [10, 11, 12],
            "prompt_token_ids": request["prompt"],
            "finish_reason": "stop",
        }
        choice["logprobs"] = {"tokens": ["4", " ", "m"], "token_logprobs": [-0.1, -0.2, -0.3]}
        return Answer(raw=json.dumps({"object": "text_completion", "model": "policy", "choices": [choice]}).encode())
    if request.get("return_token_ids"):
        return Answer(text="t0 t1 t2", token_ids=[10, 11, 12], prompt_token_ids=[1, 2, 3], logprobs=[-0.1, -0.2, -0.3])
    if "response_format" not in request:
        return Answer(text="4")
    ids = re.findall(r'<trajectory id="(\d+)">', str(request["messages"][-1]["content"]))
    if "rationale" in json.dumps(request["response_format"]):  # of a label
        return Answer(text=json.dumps({"rationale": "fine", "value": "good", "score": 0.5}))
    scores = [{"trajectory_id": id, "explanation": "fine", "score": 0.5} for id in ids]
    return Answer(text=json.dumps({"scores": scores} if ids else {"score": 0.5}))


def run_as_a_program(code: str, folder: Path) -> None:
    """Runs code as a user would: a model answers where it asks one, a Hub takes what it uploads."""
    script = folder / "snippet.py"
    with LLMServer(answer) as server, HubServer() as hub:
        script.write_text(code.replace("http://127.0.0.1:8000", server.url))
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "ODOGRAPH_STORE": str(folder / "s"),
                "OPENAI_BASE_URL": server.url + "/v1",
                "OPENAI_API_KEY": "x",
                "HF_ENDPOINT": hub.url,
                "HF_TOKEN": hub.token,
                "HF_HOME": str(folder / "hf"),
                "HF_HUB_DISABLE_XET": "1",
            },
        )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", SNIPPETS)
def test_snippets_run(code: str, tmp_path: Path) -> None:
    """Every Python snippet of the documentation runs as it stands; where it asks a model, one answers; where it uploads, a Hub takes it."""
    run_as_a_program(code, tmp_path)


def test_the_readme_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """The README's Python snippets, typed in one after the other, run: each uses what those before it made."""
    snippets = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(snippets) >= 5
    run_as_a_program("\n".join(snippets), tmp_path)


def test_the_readmes_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each `odograph` line of the README runs in a folder with a store and sessions to import; each make target and extra exists."""
    shell = [
        line.split("#")[0].strip()
        for block in re.findall(r"^```\n(.*?)^```$", re.sub(r"^```\w+\n.*?^```$", "", README, flags=re.S | re.M), re.S | re.M)
        for line in block.splitlines()
    ]
    commands = [shlex.split(line) for line in shell if line.startswith("odograph ")]
    assert len(commands) >= 8
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ODOGRAPH_STORE", str(tmp_path / "store"))
    chat = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "permission denied"}]}
    (tmp_path / ".claude/projects").mkdir(parents=True)
    (tmp_path / ".claude/projects/chat.jsonl").write_text(json.dumps(chat) + "\n")
    with odograph.open() as store:
        store.add(
            {"id": "1a2b3c4d-0000", "start": {"id": "s", "trajectory": "1a2b3c4d-0000"}, "task": "t", "agent": "a", "steps": []}
        )
    for _, *arguments in commands:
        given = [a.replace("~", str(tmp_path)) for a in arguments]
        assert cli(given) in ((0, 1) if given[0] == "validate" else (0,)), (given, capsys.readouterr().err)
    targets = {word for line in shell if line.startswith("make ") for word in line.split()[1:]}
    assert targets and all(f"\n{target}:" in (ROOT / "Makefile").read_text() for target in targets)
    install = re.findall(r"pip install [^\n]*odograph\[([a-z,]+)\]", README)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert install and all(extra in extras for listed in install for extra in listed.split(","))


def test_the_architecture_names_each_file() -> None:
    """docs/architecture.md has a word for each module. A folder with one kind of thing a file says so instead."""
    page = (ROOT / "docs/architecture.md").read_text()
    tree, worlds = page.split("\n    odograph/\n")[1].split("\n## ")[0], page.split("\n## Worlds\n")[1].split("\n- ")[0]
    rooms = {m[1]: m[2] for m in re.finditer(r"^ {6}(\w+)/(.*(?:\n {20}.*)*)", tree, re.M)} | {"worlds": worlds}
    source = ROOT / "src/odograph"
    assert rooms.keys() == {file.parent.name for file in source.glob("*/__init__.py")}
    assert set(re.findall(r"\w+\.py", tree)) == {f.name for f in source.glob("*.py")} - {"__init__.py", "__main__.py"}
    for room, says in rooms.items():
        there = {file.stem for file in (source / room).glob("*.py")} - {"__init__"}
        if room not in ("cli", "online", "dialects", "spans"):
            assert there <= set(re.findall(r"\w+", says)), (room, there - set(re.findall(r"\w+", says)))


def test_links_lead_somewhere() -> None:
    """Every relative link of the documentation has a file."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)


def test_public_names_are_complete_sorted_and_documented() -> None:
    """`odograph.__all__` is all that the package takes up from its rooms, in order, and docs/api.md has a line for each name."""
    assert odograph.__all__ == sorted(odograph.__all__)
    tree = ast.parse(Path(odograph.__file__).read_text())
    taken = [name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level for name in node.names]
    assert sorted(taken) == sorted([*odograph.__all__, "VERSION"])
    assert all(getattr(odograph, name).__doc__ for name in odograph.__all__)
    listed = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/api.md").read_text(), re.M)
    assert sorted(listed) == odograph.__all__
    text = "".join(page.read_text() for page in PAGES if page.name != "api.md")
    for name in odograph.__all__:
        if name[0].islower():
            assert f"{name}(" in text or f"odograph.{name}" in text, name


def test_formats_are_documented() -> None:
    """Each importer and exporter has its line."""
    importing, exports = (ROOT / "docs/importing.md").read_text(), (ROOT / "docs/exports.md").read_text()
    assert all(f"`{name}`" in importing for name in IMPORTERS)
    assert all(f"`{name}`" in exports for name in EXPORTERS)


def test_each_importer_says_what_its_format_does_not_contain() -> None:
    """Each importer has a row in the table of files, and in the table of what the format does not contain; no row is of a format
    that there is not."""
    page = (ROOT / "docs/importing.md").read_text()
    files, lacking = page.partition("| name | files |")[2], page.partition("## What a format does not contain")[2]
    found = [{n for row in _rows_of(table) for n in re.findall(r"`([\w-]+)`", row.split("|")[1])} for table in (files, lacking)]
    assert found[0] == {*IMPORTERS} and found[1] == {*IMPORTERS}


def _rows_of(page: str) -> list[str]:
    """The rows of the first table of a text, without its head."""
    table = re.search(r"(?:^\|.*\n)+", page, re.M)
    assert table is not None
    return [row for row in table[0].splitlines() if "`" in row]


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
