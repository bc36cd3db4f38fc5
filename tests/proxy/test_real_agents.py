"""The agents that people have, from npm and PyPI, in a home of their own and with no way out: recorded by `odograph record`.

A scripted model asks for one shell command, and answers when it sees the result. `.agents` holds the agents; it is made once, in a
few minutes, where npm is there. $ODOGRAPH_AGENTS names another folder (with `node_modules/.bin`, `py/bin` and `aider/bin`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import odograph
from tests.llm_server import Answer, LLMServer
from tests.proxy.test_sockets import answer as events_of
from tests.proxy.test_sockets import serving, text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parent.parent.parent
PACKAGES = (
    "@anthropic-ai/claude-code",
    "@openai/codex",
    "@google/gemini-cli",
    "opencode-ai",
    "@qwen-code/qwen-code",
    "@mariozechner/pi-coding-agent",
)
COMMAND = "echo made > made.txt"
SHELLS = ("bash", "shell", "exec_command", "run_shell_command", "local_shell", "shell_command")


@pytest.fixture(scope="session")
def programs() -> str:
    """The path on which the agents are."""
    folder = Path(os.environ.get("ODOGRAPH_AGENTS") or ROOT / ".agents")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm")
    if not (folder / "node_modules/.bin/claude").exists():
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            [npm, "i", "--no-audit", "--no-fund", "--prefix", str(folder), *PACKAGES], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"the agents can't be installed: {done.stderr[-300:]!r}")
    for name, program, package in (
        ("py", "mini", "mini-swe-agent"),
        ("aider", "aider", "aider-chat"),
    ):  # they want other versions
        if not (folder / name / "bin" / program).exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True, capture_output=True)
            subprocess.run([str(folder / name / "bin/pip"), "install", "-q", package], check=False, capture_output=True)
    found = (folder / "node_modules/.bin", folder / "py/bin", folder / "aider/bin", os.path.dirname(npm), "/usr/bin", "/bin")
    return os.pathsep.join(map(str, found))


def tools_in(request: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The tools of a request, in any dialect: names, and the properties of their arguments."""
    found: list[tuple[str, Any]] = []
    for tool in request.get("tools") or []:
        declared = tool.get("functionDeclarations") or [tool.get("function") or tool]
        found += [
            (t.get("name") or t.get("type") or "", t.get("parametersJsonSchema") or t.get("parameters") or t.get("input_schema"))
            for t in declared
        ]
    return [(name, (schema or {}).get("properties") or {}) for name, schema in found]


#: The tools that start a sub-agent, and what they are given.
SUB = {
    "Agent": {"description": "sub task", "prompt": "Sub: make the file", "subagent_type": "general-purpose"},
    "invoke_agent": {"agent_name": "generalist", "prompt": "Sub: make the file"},
}


def script(request: dict[str, Any]) -> Answer:
    """Asks for the command once, in an agent that has a shell; then answers."""
    sent = json.dumps(request)
    told = any(mark in sent for mark in ('"role": "tool"', '"tool_result"', '_call_output"', '"functionResponse"'))
    tools = tools_in(request)
    starter = next((name for name, _ in tools if name in SUB), None)
    if "USEAGENT" in sent and starter is not None and not told:
        function = {"name": starter, "arguments": json.dumps(SUB[starter])}
        return Answer(text="", tool_calls=[{"id": "toolu_a", "type": "function", "function": function}])
    shell = None if told else next((tool for tool in tools if tool[0].lower() in SHELLS), None)
    if shell is None:
        return Answer(text="Paris is the capital.")
    return Answer(
        text="",
        tool_calls=[
            {"id": "call_1", "type": "function", "function": {"name": shell[0], "arguments": json.dumps(arguments(shell[1]))}}
        ],
    )


def arguments(properties: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, about in properties.items():
        if name in ("command", "cmd"):
            given[name] = ["bash", "-lc", COMMAND] if about.get("type") == "array" else COMMAND
        elif name == "description":
            given[name] = "make a file"
    return given


def run(folder: Path, path: str, upstream: str, argv: list[str], *flags: str, **variables: str) -> Any:
    """Runs an agent, recorded; it made the file and said the answer. The trajectory."""
    home, work = folder / "home", folder / "work"
    home.mkdir(exist_ok=True)
    work.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=work, check=True)
    nowhere = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    env = {
        "PATH": path,
        "HOME": str(home),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "IS_SANDBOX": "1",
        **nowhere,
        **variables,
    }
    command = [
        sys.executable,
        "-m",
        "odograph",
        "--store",
        str(folder / "s"),
        "record",
        "--upstream",
        upstream,
        *flags,
        "--",
        *argv,
    ]
    done = subprocess.run(command, cwd=work, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (work / "made.txt").read_text() == "made\n"
    with odograph.open(folder / "s") as store:
        (t,) = store.trajectories()
    assert odograph.validate(t).valid
    return t


CLAUDE = {
    "ANTHROPIC_API_KEY": "k",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
}
CODEX = [
    "codex",
    "exec",
    "--skip-git-repo-check",
    "--dangerously-bypass-approvals-and-sandbox",
    "-m",
    "gpt-5",
    "-c",
    "analytics.enabled=false",
    "-c",
    "check_for_update_on_startup=false",
    "Make the file",
]


def test_claude_code_with_a_sub_agent(programs: str, tmp_path: Path) -> None:
    """Claude Code and its sub-agent: one tree, with the bytes that the server saw."""
    with LLMServer(script) as server:
        argv = ["claude", "-p", "USEAGENT Make the file", "--allowedTools", "Bash,Agent"]
        t = run(tmp_path, programs, server.url, argv, "--into-session", "--git", **CLAUDE)
        bodies = [json.loads(b) for b in server.bodies]
    assert (t.agent, t.task) == ("claude-code", "USEAGENT Make the file")
    assert [c.request for c in t.llm_calls] == bodies
    own = [s for s in t.steps if s.agent == "claude-code"]
    sub = [s for s in t.steps if s.agent == "general-purpose"]
    assert (len(own), len(sub), len(t.steps)) == (2, 2, 4)
    (spawn,), (bash,) = own[0].actions, sub[0].actions
    assert (spawn.name, bash.name) == ("Agent", "Bash") and sub[0].record.parent == spawn.id
    assert "made.txt" in next(n.data for n in t.notes if n.name == "git")["diff"] and any(n.name == "session" for n in t.notes)


def test_codex_by_post(programs: str, tmp_path: Path) -> None:
    """Codex goes on by POST where the server has no WebSocket; it is told so once."""
    with LLMServer(script) as server:
        t = run(tmp_path, programs, server.url, CODEX, "--into-session", CODEX_API_KEY="k")
        assert [c.request for c in t.llm_calls] == [json.loads(b) for b in server.bodies]
    assert (t.agent, t.task, len(t.steps), len(t.actions)) == ("codex", "Make the file", 2, 1)


def test_codex_with_a_sub_agent(programs: str, tmp_path: Path) -> None:
    """The tool that starts a sub-agent returns at once; the sub-agent is inside of its action, and its shell in its own steps."""

    def asked(id: str, name: str, **given: Any) -> Answer:
        function = {"namespace": "multi_agent_v1", "name": name, "arguments": json.dumps(given)}
        return Answer(text="", tool_calls=[{"id": id, "type": "function", "function": function}])

    def respond(request: dict[str, Any]) -> Answer:
        if "USEAGENT" not in json.dumps(request["input"]):
            return script(request)
        results = [item["output"] for item in request["input"] if item["type"] == "function_call_output"]
        if not results:
            return asked("call_a", "spawn_agent", message="Sub: make the file")
        if len(results) == 1:
            return asked("call_b", "wait_agent", targets=[json.loads(results[0])["agent_id"]], timeout_ms=600_000)
        return Answer(text="Paris is the capital.")

    with LLMServer(respond) as server:
        t = run(tmp_path, programs, server.url, [*CODEX[:-1], "USEAGENT Make the file"], "--into-session", CODEX_API_KEY="k")
    spawn, shell, wait = sorted(t.actions, key=lambda action: (action.name != "spawn_agent", action.name == "wait_agent"))
    assert (spawn.name, shell.agent, wait.name) == ("spawn_agent", "spawn_agent", "wait_agent")
    steps = [(s.agent, s.index, s.record.parent == spawn.id) for s in t.steps if s.record is not None]
    assert sorted(steps) == [
        *(("codex", n, False) for n in range(3)),
        *(("spawn_agent", n, True) for n in range(2)),
    ]


def test_codex_by_websocket(programs: str, tmp_path: Path) -> None:
    """Codex's whole session over one socket: each record has the whole history, also where a message held only what was new."""

    def respond(request: dict[str, Any]) -> list[dict[str, Any]]:
        asked = script(request)
        item: dict[str, Any] = {**text("Paris is the capital."), "id": "msg", "status": "completed"}
        if asked.tool_calls and request.get("generate") is not False:
            item = {
                "type": "function_call",
                "id": "fc",
                "call_id": "call_1",
                "status": "completed",
                **asked.tool_calls[0]["function"],
            }
        begun, completed = events_of(f"r{len(got)}", item)
        return [begun, {"type": "response.output_item.done", "output_index": 0, "item": item}, completed]

    with serving(*[respond] * 10) as (url, got, heads):
        t = run(tmp_path, programs, url, CODEX, CODEX_API_KEY="k")
    assert len(heads) == 1 and (t.agent, len(t.steps), len(t.actions)) == ("codex", 2, 1)
    first, second = (c.request["input"] for c in t.llm_calls)
    assert second[: len(first)] == first and [i["type"] for i in second[len(first) :]][-2:] == [
        "function_call",
        "function_call_output",
    ]


@pytest.mark.parametrize("task", ["Make the file", "USEAGENT Make the file"])
def test_gemini_cli(programs: str, tmp_path: Path, task: str) -> None:
    """Gemini CLI names its tool calls itself, and sends no session: its tool's result finds its call. Its sub-agents name results
    alone: these find their calls, too, and the sub-agent is inside of the action that started it."""
    settings = tmp_path / "home/.gemini/settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(
        '{"security": {"auth": {"selectedType": "gemini-api-key"}}, "privacy": {"usageStatisticsEnabled": false}}'
    )
    argv = ["gemini", "-y", "--skip-trust", "-m", "gemini-2.5-flash", "-p", task]
    with LLMServer(script) as server:
        t = run(tmp_path, programs, server.url, argv, GEMINI_API_KEY="k")
    assert (t.agent, t.task, t.model) == ("gemini-cli", task, "gemini-2.5-flash")
    actions = t.steps[0].actions
    if "USEAGENT" in task:
        (spawn,), sub = actions, next(s for s in t.steps if s.agent != "gemini-cli")
        assert spawn.name == "invoke_agent" and sub.record.parent == spawn.id
        actions = sub.actions
    assert [a.name for a in actions] == ["run_shell_command"]


def test_qwen_code(programs: str, tmp_path: Path) -> None:
    """Qwen Code."""
    with LLMServer(script) as server:
        t = run(
            tmp_path,
            programs,
            server.url,
            ["qwen", "--auth-type", "openai", "-y", "-p", "Make the file"],
            OPENAI_API_KEY="k",
            OPENAI_MODEL="fake",
            HTTP_PROXY="",  # it would use it for this machine, too
            HTTPS_PROXY="",
        )
    assert (t.agent, len(t.actions)) == ("qwen-code", 1)


def test_opencode(programs: str, tmp_path: Path) -> None:
    """opencode: the call for a title is no step, and the user's configuration stays as it was."""
    config = tmp_path / "home/.config/opencode/opencode.json"
    config.parent.mkdir(parents=True)
    said = '{"provider": {"odo": {"npm": "@ai-sdk/openai-compatible", "options": {"baseURL": "http://127.0.0.1:9/v1", "apiKey": "k"}, "models": {"fake": {"name": "fake"}}}}}'
    config.write_text(said)
    with LLMServer(script) as server:
        t = run(
            tmp_path,
            programs,
            server.url,
            ["opencode", "run", "-m", "odo/fake", "Make the file"],
            OPENCODE_DISABLE_AUTOUPDATE="1",
            OPENCODE_DISABLE_MODELS_FETCH="1",
        )
    assert (t.agent, len(t.steps), sorted(c.purpose for c in t.llm_calls)) == ("opencode", 2, ["act", "act", "title"])
    assert json.loads(config.read_text())["provider"] == json.loads(said)["provider"]  # opencode itself adds a "$schema"


def test_pi(programs: str, tmp_path: Path) -> None:
    """pi reads base URLs from a file: it gets one of its own, and its sessions stay where the user has them."""
    models = tmp_path / "home/.pi/agent/models.json"
    models.parent.mkdir(parents=True)
    said = '{"providers": {"odo": {"baseUrl": "http://127.0.0.1:9/v1", "api": "openai-completions", "apiKey": "k", "models": [{"id": "fake"}]}}}'
    models.write_text(said)
    with LLMServer(script) as server:
        t = run(
            tmp_path,
            programs,
            server.url,
            ["pi", "--provider", "odo", "--model", "fake", "-p", "Make the file"],
            "--into-session",
            PI_OFFLINE="1",
        )
    assert (t.agent, len(t.actions)) == ("pi", 1) and any(n.name == "session" for n in t.notes)
    assert models.read_text() == said and list(models.parent.glob("sessions/*/*.jsonl"))


def test_mini_swe_agent(programs: str, tmp_path: Path) -> None:
    """mini-swe-agent, which does not stream."""
    if shutil.which("mini", path=programs) is None:
        pytest.skip("mini-swe-agent is not installed")
    with LLMServer(script) as server:
        argv = ["mini", "-m", "openai/fake", "-y", "--exit-immediately", "-l", "0", "-t", "Make the file", "-o", "out.json"]
        t = run(
            tmp_path, programs, server.url, argv, OPENAI_API_KEY="k", MSWEA_CONFIGURED="true", MSWEA_COST_TRACKING="ignore_errors"
        )
    assert t.agent == "mini-swe-agent" and t.steps[0].actions


def test_aider(programs: str, tmp_path: Path) -> None:
    """aider, whose model calls no tools: the file stands in the answer, and aider closes the stream at `[DONE]`."""
    if shutil.which("aider", path=programs) is None:
        pytest.skip("aider is not installed")
    argv = ["aider", "--model", "openai/fake", "--edit-format", "whole", "--message", "Make the file", "--yes-always"]
    argv += ["--no-check-update", "--analytics-disable", "--no-show-model-warnings", "--no-auto-commits", "--no-gitignore"]
    with LLMServer([Answer(text="Here it is.\n\nmade.txt\n```\nmade\n```\n")]) as server:
        t = run(tmp_path, programs, server.url, [*argv, "made.txt"], OPENAI_API_KEY="k")
        assert [c.request for c in t.llm_calls] == [json.loads(b) for b in server.bodies]
    assert (t.agent, t.status, len(t.steps), t.llm_calls[0].response["choices"][0]["finish_reason"]) == (
        "aider",
        "completed",
        1,
        "stop",
    )
