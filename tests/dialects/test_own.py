"""A dialect that a stranger brings in one file, as docs/extending.md shows it: recorded, spoken by agents and judges, and read."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import Agent, Judge, Runners, Task, dialects

httpx2 = pytest.importorskip("httpx2")
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of the documentation, as a file."""
    page = (ROOT / "docs" / "extending.md").read_text().partition("## A dialect")[2]
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)[:1]
    path = tmp_path_factory.mktemp("own") / "ollama.py"
    path.write_text(code)
    return path


class Ollama:
    """A server that speaks it: a tool call first where tools are there, then an answer; in lines where a stream is asked."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def do_POST(self) -> None:
                sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.requests.append(sent)
                end = {"done": True, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 3}
                said: list[dict[str, Any]] = [{"content": '{"sc'}, {"content": 'ore": 1}'}]
                if sent.get("tools") and sent["messages"][-1]["role"] != "tool":
                    said = [{"content": "", "tool_calls": [{"function": {"name": "search", "arguments": {"q": "x"}}}]}]
                lines = [{"model": "m", "message": {"role": "assistant", **s}, "done": False} for s in said]
                streams = sent.get("stream", True)
                if streams:
                    lines.append({"model": "m", "message": {"role": "assistant", "content": ""}, **end})
                    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
                else:
                    whole = {**said[0], "content": "".join(s["content"] for s in said)}
                    data = json.dumps({"model": "m", "message": {"role": "assistant", **whole}, **end}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/x-ndjson" if streams else "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"


@pytest.fixture
def server() -> Iterator[Ollama]:
    one = Ollama()
    threading.Thread(target=one._server.serve_forever, args=(0.01,), daemon=True).start()
    yield one
    one._server.shutdown()
    one._server.server_close()


def test_a_client_is_recorded(store: odograph.Store, file: Path, server: Ollama) -> None:
    """A plain HTTP client that speaks it is recorded, streaming or not, with text, tokens and messages."""
    with httpx2.Client() as plain, store.record(task="t") as run, run.step():
        client = odograph.wrap(plain, dialect=str(file))
        for more in ({}, {"stream": False}):
            client.post(server.url + "/api/chat", json={"model": "m", "messages": [{"role": "user", "content": "q"}], **more})
    calls = store.trajectory(run.id).llm_calls
    assert [(c.dialect, c.model, c.text, c.prompt_tokens, c.completion_tokens, c.error, len(c.events)) for c in calls] == [
        ("ollama.chat", "m", '{"score": 1}', 7, 3, None, n) for n in (3, 0)
    ]
    assert calls[0].messages == [{"role": "user", "content": "q"}]


@pytest.mark.parametrize("stream", [False, True])
def test_agents_and_judges_speak_it(store: odograph.Store, file: Path, server: Ollama, stream: bool) -> None:
    """An agent uses tools by it, streaming or not, and a judge gets checked values."""

    def search(q: str) -> str:
        """Searches."""
        return f"found {q}"

    agent = Agent(name="a", model="m", base_url=server.url, dialect=str(file), tools=[search], stream=stream)
    (response,) = asyncio.run(Runners.run_task(Task(input="go", agent=agent), store=store)).values()
    assert response.answer == '{"score": 1}'
    assert server.requests[-1]["messages"][-1] == {"role": "tool", "tool_name": "search", "content": "found x"}
    judge = Judge("m", server.url, dialect=str(file))
    (answer,) = asyncio.run(judge.ask(["q"], {"type": "object", "required": ["score"]}))
    assert (answer.status, answer.value) == ("ok", {"score": 1})


def test_a_dialect_that_fails_is_told_by_name(store: odograph.Store, file: Path, server: Ollama) -> None:
    """A failure in a stranger's dialect names the dialect and the function: the agent did nothing wrong."""

    def search(q: str) -> str:
        """Searches."""
        return f"found {q}"

    for member in ("results", "said"):
        own = file.with_name(f"{member}.py")
        text = file.read_text().replace('"ollama.chat"', f'"{member}.chat"')
        own.write_text(re.sub(rf"(def {member}\(.*\):\n)", r"\1    raise KeyError('boo')\n", text))
        agent = Agent(name="a", model="m", base_url=server.url, dialect=str(own), tools=[search])
        (response,) = asyncio.run(Runners.run_task(Task(input="go", agent=agent), store=store)).values()
        assert response.status == "failed"
        assert f"the dialect '{member}.chat' failed in {member}(): KeyError: 'boo'" in str(response.msg)


def test_a_dialect_that_makes_no_request_is_told(tmp_path: Path) -> None:
    """A judge that speaks it says in one sentence which dialect fails, and how."""
    start = "NAME = 'x.y'\nPATHS = ('/z',)\ndef request(model, system, history, tools, params, schema=None):\n    "
    for name, body, says in (
        ("a.py", "raise ValueError('boo')", "the dialect 'x.y' failed in request(): ValueError: boo"),
        ("b.py", "return 3", "the dialect 'x.y' gave in request() int; dict was expected"),
    ):
        (tmp_path / name).write_text(start + body)
        judge = Judge("m", "http://127.0.0.1:9", dialect=str(tmp_path / name))
        with pytest.raises(odograph.InvalidInput, match=re.escape(says)):
            asyncio.run(judge.ask(["q"]))


def test_a_long_history_is_stored_once(tmp_path: Path, file: Path) -> None:
    """The list that it says agents resend is stored once."""
    dialects.find(str(file))
    with odograph.open(tmp_path / "s") as store:
        with store.record(task="t") as run:
            sent = [{"role": "user", "content": f"{n}" * 500} for n in range(40)]
            for n in range(40):
                run.step().llm_call(request={"model": "m", "messages": sent[: n + 1]}, response="a", dialect="ollama.chat")
        assert [len(c.messages) for c in store.trajectory(run.id).llm_calls] == list(range(1, 41))
    assert sum(p.stat().st_size for p in (tmp_path / "s" / "journal").glob("*.jsonl")) < 80_000


def test_an_entry_point_is_known_everywhere(tmp_path: Path, file: Path) -> None:
    """A package's dialect is known by its name without being loaded by anyone; one that can't be loaded costs nobody a record."""
    (tmp_path / "ollama_chat.py").write_text(file.read_text())
    about = tmp_path / "ollama_chat-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ollama-chat\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[odograph.dialects]\nollama.chat = ollama_chat\nbroken = not_there_at_all\n")
    code = (
        "from odograph import dialects\n"
        "print(dialects.of_path('/api/chat').NAME, dialects.get('ollama.chat').NAME, dialects.names()[-2:])\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "ollama.chat ollama.chat ['ollama.chat', 'broken']\n"
    assert "the dialect 'broken' of an installed package is left out" in done.stderr


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    """What is no dialect is told by what it lacks; a name that is not known, by what there is; one for recording, as such."""
    empty = tmp_path / "empty.py"
    empty.write_text("NAME = 'x'\n")
    taken = tmp_path / "taken.py"
    taken.write_text("NAME = 'openai.chat'\nPATHS = ('/x',)\n")
    for name, said in (
        (str(empty), "is no dialect: it has no PATHS"),
        (str(taken), "another name was expected"),
        ("nonsense", "no dialect named 'nonsense'; there are: anthropic.messages, "),
        ("openai.embeddings", "can be recorded, but agents can't use the dialect; agents use: anthropic.messages, "),
    ):
        with pytest.raises(odograph.OdographError, match=re.escape(said)):
            Agent(model="m", dialect=name)
    assert Agent(model="m", dialect="google").dialect == "gemini"
