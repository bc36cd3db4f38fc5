"""What Claude Code, Codex, Gemini CLI and Qwen Code tell of themselves, against the receiver: each request once, each tool once, with its agent."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import odograph
from tests.collector.test_collect import collecting
from tests.llm_server import Answer, LLMServer
from tests.proxy.test_real_agents import CLAUDE, CODEX, programs, script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
__all__ = ["programs"]  # a fixture
TOLD = {
    "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
    "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1",
    "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "otlp",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
    "OTEL_LOG_RAW_API_BODIES": "1",
    "OTEL_LOG_TOOL_DETAILS": "1",
}


def ran(folder: Path, path: str, argv: list[str], variables: dict[str, str]) -> None:
    """Runs an agent in a home of its own; it made the file."""
    work = folder / "work"
    work.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=work, check=True)
    env = {"PATH": path, "HOME": str(folder), "IS_SANDBOX": "1", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        argv, cwd=work, env=env | variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and (work / "made.txt").exists(), done.stdout[-2000:] + done.stderr[-2000:]


def test_claude_code(programs: str, store: odograph.Store, tmp_path: Path) -> None:
    """Events with the bodies, and spans, of an agent and its sub-agent."""
    with LLMServer(script) as server:
        with collecting(store) as (_, (url,)):
            keys = {k: v for k, v in CLAUDE.items() if k not in ("DISABLE_TELEMETRY", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC")}
            more = keys | TOLD | {"ANTHROPIC_BASE_URL": server.url, "OTEL_EXPORTER_OTLP_ENDPOINT": url}
            ran(tmp_path, programs, ["claude", "-p", "USEAGENT Make the file", "--allowedTools", "Bash,Agent"], more)
        asked = len(server.requests)
    (t,) = store.trajectories()
    assert len(t.llm_calls) == asked and [c.purpose for c in t.llm_calls].count("act") == 4
    assert [(s.agent, [a.name for a in s.actions]) for s in t.steps if s.actions] == [
        ("claude-code", ["Agent"]),
        ("general-purpose", ["Bash"]),
    ]
    assert odograph.validate(t, profile="basic").valid


def test_claude_codes_sub_agents_at_once(programs: str, store: odograph.Store, tmp_path: Path) -> None:
    """Two sub-agents of one kind that run at once are two agents, each inside of its own action."""
    ids = itertools.count()

    def two(request: dict[str, Any]) -> Answer:
        given = script(request)
        if [c["function"]["name"] for c in given.tool_calls] == ["Agent"]:
            given.tool_calls = given.tool_calls * 2
        given.tool_calls = [{**c, "id": f"toolu_{next(ids)}"} for c in given.tool_calls]
        return given

    with LLMServer(two) as server:
        with collecting(store) as (_, (url,)):
            keys = {k: v for k, v in CLAUDE.items() if k != "DISABLE_TELEMETRY"}
            more = keys | TOLD | {"ANTHROPIC_BASE_URL": server.url, "OTEL_EXPORTER_OTLP_ENDPOINT": url}
            ran(tmp_path, programs, ["claude", "-p", "USEAGENT Make the file", "--allowedTools", "Bash,Agent"], more)
        asked = len(server.requests)
    (t,) = store.trajectories()
    by_agent = Counter(s.agent for s in t.steps)
    assert by_agent == {"claude-code": 2, "general-purpose": 2, "general-purpose-2": 2} and len(t.llm_calls) == asked
    started = [a.id for a in t.actions if a.name == "Agent"]
    assert {s.record.parent for s in t.steps if s.agent != "claude-code"} == set(started) and len(started) == 2


def test_codex(programs: str, store: odograph.Store, tmp_path: Path) -> None:
    """Events with figures alone, beside some hundred spans of its inner workings."""
    with LLMServer(script) as server:
        with collecting(store) as (_, (url,)):
            sent = f'{{exporter={{otlp-http={{endpoint="{url}/v1/logs",protocol="json"}}}},log_user_prompt=true,'
            sent += f'trace_exporter={{otlp-http={{endpoint="{url}/v1/traces",protocol="binary"}}}}}}'
            flags = ["-c", f'openai_base_url="{server.url}/v1"', "-c", f"otel={sent}"]
            ran(tmp_path, programs, [*CODEX[:2], *flags, *CODEX[2:]], {"CODEX_API_KEY": "k"})
        asked = len(server.requests)
    (t,) = store.trajectories()
    assert (len(t.llm_calls), t.task, [(a.name, a.ok) for a in t.actions]) == (asked, "Make the file", [("exec_command", True)])
    assert [c.prompt_tokens for c in t.llm_calls] == [7] * asked and odograph.validate(t, profile="basic").valid


def test_gemini_cli(programs: str, store: odograph.Store, tmp_path: Path) -> None:
    """Events with texts, and spans, each of which is a trace of its own."""
    settings = tmp_path / ".gemini/settings.json"
    settings.parent.mkdir()
    with LLMServer(script) as server:
        with collecting(store) as (_, (url,)):
            telemetry = {"enabled": True, "target": "local", "otlpEndpoint": url, "otlpProtocol": "http", "logPrompts": True}
            about = {"security": {"auth": {"selectedType": "gemini-api-key"}}, "privacy": {"usageStatisticsEnabled": False}}
            settings.write_text(json.dumps(about | {"telemetry": telemetry}))
            argv = ["gemini", "-y", "--skip-trust", "-m", "gemini-2.5-flash", "-p", "Make the file"]
            ran(tmp_path, programs, argv, {"GEMINI_API_KEY": "k", "GOOGLE_GEMINI_BASE_URL": server.url})
        asked = len(server.requests)
    (t,) = store.trajectories()
    assert (len(t.llm_calls), t.agent, [(a.name, a.ok) for a in t.actions]) == (
        asked,
        "gemini-cli",
        [("run_shell_command", True)],
    )
    assert t.llm_calls[-1].text == "Paris is the capital." and odograph.validate(t, profile="basic").valid


def test_qwen_code(programs: str, store: odograph.Store, tmp_path: Path) -> None:
    """Events with the texts of requests and answers."""
    settings = tmp_path / ".qwen/settings.json"
    settings.parent.mkdir()
    with LLMServer(script) as server:
        with collecting(store) as (_, (url,)):
            telemetry = {"enabled": True, "target": "local", "otlpEndpoint": url, "otlpProtocol": "http", "logPrompts": True}
            settings.write_text(json.dumps({"telemetry": telemetry, "privacy": {"usageStatisticsEnabled": False}}))
            argv = ["qwen", "--auth-type", "openai", "-y", "-p", "Make the file"]
            keys = {"OPENAI_API_KEY": "k", "OPENAI_MODEL": "fake", "OPENAI_BASE_URL": server.url + "/v1", "HTTPS_PROXY": ""}
            ran(tmp_path, programs, argv, keys)
        asked = len(server.requests)
    (t,) = store.trajectories()
    assert (len(t.llm_calls), t.agent, t.task) == (asked, "qwen-code", "Make the file")
    assert [(a.name, a.ok) for a in t.actions] == [("run_shell_command", True)] and odograph.validate(t, profile="basic").valid
