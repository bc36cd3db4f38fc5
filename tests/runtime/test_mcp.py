"""Tools of real MCP servers: a process over stdio, and one over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import Agent, InvalidInput, MCPServer, RunError, Runners, Task
from tests.llm_server import Answer, LLMServer
from tests.waiting import until

from .scaffold import asks, by_turn, sent

pytest.importorskip("mcp")

SERVER = '''
import os, sys
from mcp.server.mcpserver import MCPServer
server = MCPServer("notes")
notes = []

@server.tool()
def remember(text: str) -> str:
    """Keeps a note."""
    notes.append(text)
    return f"{len(notes)} notes"

@server.tool()
def fail() -> str:
    """Fails."""
    raise ValueError("no paper")

@server.tool()
def facts() -> dict[str, int]:
    """Facts."""
    return {"pid": os.getpid()}

@server.tool()
def photo() -> list:
    """A photo."""
    from mcp.server.mcpserver import Image
    return ["a dot", Image(data=b"dot", format="png")]

@server.tool()
def die() -> str:
    """Dies."""
    os._exit(1)

if len(sys.argv) > 1:
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
else:
    server.run("stdio")
'''


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "server.py"
    path.write_text(SERVER)
    return str(path)


@contextlib.contextmanager
def served(script: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, script, str(port)], stderr=subprocess.DEVNULL)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, process)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def url(script: str) -> Iterator[str]:
    with served(script) as url:
        yield url


def run(store: odograph.Store, server: LLMServer, source: MCPServer, **more: Any) -> Any:
    agent = Agent(model="m", base_url=server.url + "/v1", tools=[source], max_retries=0, **more)
    task = Task(input="go", agent=agent)
    return asyncio.run(Runners.run_task(task, store=store))[task.id]


def both(store: odograph.Store, source: MCPServer) -> Any:
    model = by_turn(
        asks(("remember", {"text": "a"})),
        asks(("remember", {"text": "b"}), ("fail", {}), ("facts", {}), id="two"),
        asks(("remember", {}), id="three"),
        Answer(text="end"),
    )
    with LLMServer(model) as server:
        response = run(store, server, source)
        said = [m["content"] for m in sent(server)[-1] if m["role"] == "tool"]
        offered = [t["function"]["name"] for t in server.requests[0][1]["tools"]]
    assert response.answer == "end", response.msg
    assert offered == ["remember", "fail", "facts", "photo", "die"]
    assert said[:2] == ["1 notes", "2 notes"] and said[2].startswith("error") and '"pid"' in said[3] and "error" in said[4]
    actions = {(a.name, a.ok) for a in response.recorded.actions}
    assert actions == {("remember", True), ("fail", False), ("facts", True), ("remember", False)}
    return next(a.result["pid"] for a in response.recorded.actions if a.name == "facts")


def test_stdio(store: odograph.Store, script: str) -> None:
    """Tools of a process of its own for each run, which is gone when the run ends."""
    source = MCPServer(command=sys.executable, args=[script], env={"SECRET": "hush"})
    first, second = both(store, source), both(store, source)
    assert first != second
    for pid in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    spec = next(store.trajectories()).metadata["runtime"]["agent"]["tools"][0]["mcp"]
    assert spec == {"command": sys.executable, "args": [script]}


def test_http(store: odograph.Store, url: str) -> None:
    """The same over streamable HTTP."""
    source = MCPServer(url=url, tools=["remember", "fail", "facts", "photo", "die"])
    both(store, source)


def test_stepped_over_event_loops_and_rebuilt(store: odograph.Store, script: str) -> None:
    """A run that is stepped from loop to loop connects again; one that is resumed does so from its record."""
    model = by_turn(asks(("remember", {"text": "a"})), asks(("remember", {"text": "b"}), id="two"), Answer(text="end"))
    with LLMServer(model) as server:
        agent = Agent(model="m", base_url=server.url + "/v1", tools=[MCPServer(command=sys.executable, args=[script])])
        task = Task(input="go", agent=agent)
        asyncio.run(Runners.step(task, store=store))
        asyncio.run(Runners.step(task))
        again = Runners.resume(store, task._session.run.id)  # type: ignore[union-attr]
        assert asyncio.run(Runners.finish(again)).answer == "end"


def test_servers_that_are_not_there_or_die(store: odograph.Store, script: str) -> None:
    """No such command, nobody at the URL, no such tool: a sentence, and a record; a server that dies in the middle is started again."""
    with LLMServer(by_turn(asks(("die", {})), asks(("remember", {"text": "x"}), id="b"), Answer(text="end"))) as server:
        for source, why in (
            (MCPServer(command="/no/such/command"), "can't be used"),
            (MCPServer(url="http://127.0.0.1:9/mcp"), "can't be used"),
            (MCPServer(command=sys.executable, args=[script], tools=["nope"]), "has no tool 'nope'; there are: remember, fail"),
            (
                MCPServer(command=sys.executable, args=["-c", "import time; time.sleep(60)"], timeout=1),
                "did not answer within 1 s",
            ),
        ):
            response = run(store, server, source)
            assert response.status == "failed" and why in response.msg, response.msg
            assert response.recorded.end.metrics == {"status": "error_environment"}
        assert not server.requests
        response = run(store, server, MCPServer(command=sys.executable, args=[script]), tool_timeout=60)
        assert response.answer == "end" and [a.ok for a in response.recorded.actions] == [False, True]  # it was started again
    with pytest.raises(InvalidInput, match=r"a command .* or a url"):
        MCPServer()
    assert issubclass(RunError, RuntimeError) and signal


def test_two_servers_images_and_what_a_server_said(store: odograph.Store, script: str, tmp_path: Path) -> None:
    """Tools of one name are told apart by their server, or by a prefix; an image is an image for the model, and again on replay; a
    server that can't start is quoted."""
    other = tmp_path / "other.py"
    other.write_text(Path(script).read_text())
    servers = [MCPServer(command=sys.executable, args=[str(p)], tools=["photo", "remember"]) for p in (script, other)]
    servers.append(MCPServer(command=sys.executable, args=[script], tools=["remember"], prefix="third_"))
    with LLMServer(by_turn(asks(("server_photo", {}), ("third_remember", {"text": "x"})), Answer(text="end"))) as server:
        own = Agent(model="m", base_url=server.url + "/v1", api_key="x", tools=servers, max_retries=0)
        response = Runners.sync_run("q", own, store=store)
        offered = [t["function"]["name"] for t in server.requests[0][1]["tools"]]
        assert offered == ["server_remember", "server_photo", "other_remember", "other_photo", "third_remember"], offered
        *_, tool, _, user = sent(server)[1]
        assert tool["content"] == "a dot"
        assert user["content"][1]["image_url"]["url"] == "data:image/png;base64,ZG90"
        assert asyncio.run(odograph.replay(response.trajectory_id, own, store=store)).same
        broken = MCPServer(command=sys.executable, args=["-c", "import sys; sys.exit('no licence')"])
        failed = Runners.sync_run("q", own.replace(tools=[broken]), store=store)
        assert failed.status == "failed" and "its stderr ends with: no licence" in str(failed.msg)


LEARNS = """
import asyncio, os, sys
from mcp.server.mcpserver import Context, MCPServer
server = MCPServer("learner")

@server.tool()
async def learn(context: Context) -> str:
    \"\"\"Learns.\"\"\"
    server.add_tool(os.getpid, name="dance", description="Dances.")
    await context.notify_tools_changed()
    await context.session.send_tool_list_changed()
    return "learnt"

@server.tool()
async def rest() -> str:
    \"\"\"Rests.\"\"\"
    await asyncio.sleep(0.5)
    return "rested"

if len(sys.argv) > 1:
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
else:
    server.run("stdio")
"""


@pytest.mark.parametrize("kind", ["stdio", "http"])
def test_a_server_that_learns_a_tool(store: odograph.Store, tmp_path: Path, kind: str) -> None:
    """A tool that a server says it has now is offered and can be used. Over HTTP the server's word travels beside the results, so it
    may come after the next request."""
    script = tmp_path / "learner.py"
    script.write_text(LEARNS)
    with served(str(script)) if kind == "http" else contextlib.nullcontext() as url:
        source = MCPServer(url=url) if url else MCPServer(command=sys.executable, args=[str(script)])
        script = [asks(("learn", {})), asks(("rest", {}), id="b"), asks(("dance", {}), id="c"), Answer(text="end")]
        with LLMServer(by_turn(*script)) as server:
            response = run(store, server, source)
            offered = [[t["function"]["name"] for t in body["tools"]] for _, body, *_ in server.requests]
    assert response.answer == "end", response.msg
    first, after = ["learn", "rest"], ["learn", "rest", "dance"]
    assert (offered[0], offered[2:]) == (first, [after, after]) and (offered[1] == after or kind == "http")
    assert [a.ok for a in response.recorded.actions] == [True, True, True]


@pytest.mark.parametrize("shared", [True, False])
def test_a_batch_shares_a_server(store: odograph.Store, script: str, shared: bool) -> None:
    """`shared=True`: the runs of a batch have one process, which ends with the batch, and starts again for who finds it dead;
    without, each run has its own."""
    source = MCPServer(command=sys.executable, args=[script], shared=shared)

    def answer(body: Any) -> Answer:
        turn = sum(m["role"] == "tool" for m in body["messages"])
        first = "die" if body["messages"][0]["content"] == "1" else "facts"
        return [asks((first, {})), asks(("facts", {}), id="b"), Answer(text="end")][turn]

    with LLMServer(answer) as server:
        agent = Agent(model="m", base_url=server.url + "/v1", api_key="x", tools=[source], max_retries=0)
        tasks = [Task(input=str(n), id=str(n), agent=agent) for n in range(3)]
        done = asyncio.run(Runners.run_task(tasks, store=store, max_concurrency=1))
    assert [r.answer for r in done.values()] == ["end"] * 3, [r.msg for r in done.values()]
    pids = [[a.result["pid"] for a in r.recorded.actions if a.ok] for r in done.values()]
    one = {pid for own in pids for pid in own}
    assert len(one) == (2 if shared else 3), pids
    for pid in one:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
