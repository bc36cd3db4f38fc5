"""Instrumentation as people install it, against the receiver: what is recorded is what the model was sent and what it answered.

The packages are in an environment of their own, `.venv-emitters`, which `make test-all` makes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import dialects
from tests.collector.test_collect import collecting
from tests.llm_server import Answer, LLMServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PROGRAMS = Path(__file__).parent / "emitters"
PACKAGES = Path(__file__).parent.parent.parent / ".venv-emitters"
CALL = {"id": "call_1", "type": "function", "function": {"name": "tide", "arguments": '{"port": "Brest"}'}}


def script(request: dict[str, Any]) -> Answer:
    """Asks for the tool, then answers; a response repeats its request's settings, as OpenAI's do."""
    repeated = {k: request[k] for k in ("instructions", "tools") if k in request} if "input" in request else {}
    if "Brest: at noon" in json.dumps(request):
        return Answer(text="at noon", extra=repeated)
    return Answer(text="", tool_calls=[CALL], extra=repeated)


def ran(name: str, store: odograph.Store, folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    """Runs an emitter's program: the one trajectory that came of it, and the requests that the model got."""
    python, node = PACKAGES / "bin" / "python", shutil.which("node")
    command = [str(python), str(PROGRAMS / f"{name}.py")]
    if name == "vercel":
        if node is None or not (PACKAGES / "node_modules" / "ai").exists():
            pytest.skip("the AI SDK is not there: `make test-all` installs it where npm is")
        copied = PACKAGES / "vercel.mjs"  # node looks for packages beside the program
        shutil.copy(PROGRAMS / "vercel.mjs", copied)
        command = [node, str(copied)]
    elif not python.exists():
        pytest.skip("the emitters are not there: `make test-all` installs them into .venv-emitters")
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "OPENAI_API_KEY": "k"}
    with LLMServer(script) as server:
        with collecting(store) as (collector, (url,)):
            done = subprocess.run([*command, server.url, url], cwd=folder, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
            assert not collector.counts["rejected"] and not collector.counts["unreadable"]
        (t,) = store.trajectories()
        return t, [request for _, request in server.requests]


def plain(messages: list[dict[str, Any]]) -> list[Any]:
    """Messages without what emitters write in spellings of their own: arguments are parsed."""
    out: list[Any] = []
    for m in messages:
        calls = [(c["id"], c["function"]["name"], parsed(c["function"]["arguments"])) for c in m.get("tool_calls") or []]
        out.append((m["role"], m.get("content") or "", calls, m.get("tool_call_id")))
    return out


def parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def named(tools: list[Any]) -> list[Any]:
    return [(f["name"], f["description"], f["parameters"]["properties"]) for f in (t.get("function", t) for t in tools)]


@pytest.mark.parametrize(
    ("name", "agent", "session"),
    [
        ("openllmetry", None, None),
        ("openinference_openai", None, "s-1"),
        ("openinference_agents", "pilot", None),
        ("pydantic_logfire", "pilot", "its own"),
        ("langfuse_openai", "pilot", "s-1"),
        ("vercel", None, "s-1"),
    ],
)
def test_an_emitter_is_recorded(name: str, agent: str | None, session: str | None, store: odograph.Store, tmp_path: Path) -> None:
    """Two calls and a tool between them, each once: messages, tools, parameters and answers as the model's server saw them, tokens,
    why each answer ended, the tool's result as an action of the call that asked; task, agent, session and answer of the run."""
    t, sent = ran(name, store, tmp_path)
    dialect = dialects.get("openai.responses" if "input" in sent[0] else "openai.chat")
    assert len(sent) == len(t.llm_calls) == len(t.steps) == 2
    for call, request in zip(t.llm_calls, sent, strict=True):
        assert plain(call.messages) == plain(dialect.messages(request))
        assert named(call.tools) == named(request["tools"])
        assert {k: v for k, v in call.params.items() if k in ("temperature", "top_p", "max_tokens")} == {
            k: request[k] for k in ("temperature",) if k in request
        }
        assert (call.model, call.prompt_tokens, call.completion_tokens, call.origin) == ("m", 7, 3, "transcript")
    first, last = t.llm_calls
    (asked,) = first.choices[0].tool_calls
    assert (asked.id, asked.name, parsed(asked.arguments), last.text) == ("call_1", "tide", {"port": "Brest"}, "at noon")
    assert first.finish_reason in ("tool_calls", "stop", None) and last.finish_reason == "stop"
    (action,) = t.actions
    assert (action.name, action.arguments, action.result) == ("tide", {"port": "Brest"}, "Brest: at noon")
    assert (action.tool_call_id, action.llm_call, action.step) == ("call_1", first.id, 0)
    assert (t.task, t.agent, t.status, t.answer) == ("high tide in Brest?", agent, "completed", "at noon")
    found = t.metadata["source"].get("session")
    assert found == session or (session == "its own" and found)
    assert odograph.validate(t, profile="basic").valid
