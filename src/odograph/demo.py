"""The demo: an agent with tools tries each of several tasks several times, in worker processes, one of which is killed.

It is run step by step over HTTP against a small model server that the demo starts, or against the endpoint of
$OPENAI_BASE_URL. Everything that follows - list, show, validate, export - is what a user would type.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .api import open
from .capture.decorators import log_context
from .errors import MissingExtra, OdographError
from .runtime import Agent, Runners, Task, TaskConfig, TaskRunMode

PRICES = {"apple": 3, "pear": 4, "plum": 2, "melon": 9, "cherry": 1, "mango": 7}
TASKS = [
    ("apple", 3, "pear", 2),
    ("plum", 5, "melon", 1),
    ("cherry", 12, "apple", 4),
    ("mango", 2, "plum", 6),
    ("melon", 2, "cherry", 9),
]
ATTEMPTS = 4
#: What a worker says on stdout before the reason why it stopped.
_FAILED = "failed"
SYSTEM = "You are a shop assistant. Look prices up with lookup, compute with calculate, and answer with the number alone."


def question(task: tuple[str, int, str, int]) -> str:
    return f"What do {task[1]} x {task[0]} and {task[3]} x {task[2]} cost together?"


# --- the agent ----------------------------------------------------------------------------------------------------------


def lookup(fruit: str) -> str:
    """The price of one piece of a fruit.

    Args:
        fruit: its name
    """
    log_context("price list", {"fruits": sorted(PRICES)}, query=fruit, purpose="to know which prices there are")
    return f"{PRICES[fruit]}"


def calculate(expression: str) -> str:
    """The value of a sum of products.

    Args:
        expression: such as 2*3+4*5
    """
    if not re.fullmatch(r"\d+(\*\d+)?(\+\d+(\*\d+)?)*", expression.replace(" ", "")):
        raise ValueError(f"not a sum of products: {expression[:80]}")
    total = 0
    for part in expression.replace(" ", "").split("+"):
        product = 1
        for factor in part.split("*"):
            product *= int(factor)
        total += product
    return str(total)


def tasks_of(agent: Agent, number: int) -> list[Task]:
    """All attempts of one of the tasks."""
    return [
        Task(
            input=question(TASKS[number]),
            agent=agent.replace(params={"seed": attempt, "temperature": 1.0}),
            conf=TaskConfig(run_mode=TaskRunMode.INTERACTIVE, max_steps=6),
            id=f"task-{number}-{attempt}",
            group=f"task-{number}",
            seed=attempt,
            tags=["demo"],
        )
        for attempt in range(ATTEMPTS)
    ]


async def work(store_dir: str, url: str, model: str, numbers: list[int]) -> None:
    """A worker process: all attempts of some tasks, as far as they are not done. Says on stdout which steps are kept."""
    agent = Agent(name="shop-assistant", model=model, base_url=url, system_prompt=SYSTEM, tools=[lookup, calculate])
    with open(store_dir) as store:
        before = {s.task_id: s for s in store.summaries()}
        for number in numbers:
            task = TASKS[number]
            right = str(PRICES[task[0]] * task[1] + PRICES[task[2]] * task[3])
            for one in tasks_of(agent, number):
                held = before.get(one.id)
                if held is not None and held.status == "unterminated":
                    one = Runners.resume(store, held.id, agent=one.agent)
                elif held is not None:
                    continue
                async for finished, _, response in Runners.steps(one, store=store):
                    print(response.trajectory_id, response.trajectory[-1]["id"], flush=True)
                    if finished:
                        said = str(response.answer).strip()
                        why = f"{said!r}; right is {right}"
                        response.reward(1.0 if said == right else 0.0, name="correct", step="trajectory", rationale=why)


# --- the model server ---------------------------------------------------------------------------------------------------


def think(request: dict[str, Any]) -> tuple[str | None, list[tuple[str, dict[str, str]]], str]:
    """The model: looks both prices up, then adds; every third attempt gets a quantity wrong. (text, tool calls, reasoning)"""
    text = request["messages"][1]["content"]
    (n, a), (m, b) = re.findall(r"(\d+) x (\w+)", text)
    results = [m["content"] for m in request["messages"] if m["role"] == "tool"]
    if not results:
        return None, [("lookup", {"fruit": a}), ("lookup", {"fruit": b})], f"I need the prices of {a} and {b}."
    if len(results) == 2:
        slip = 1 if (request.get("seed", 0) + len(a)) % 3 == 0 else 0
        return None, [("calculate", {"expression": f"{n}*{results[0]}+{int(m) + slip}*{results[1]}"})], "Now I add them up."
    return results[2], [], "That is the answer."


class _Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        time.sleep(0.01)
        text, calls, reasoning = think(request)
        message: dict[str, Any] = {"role": "assistant", "content": text, "reasoning_content": reasoning}
        if calls:
            asked = [
                {
                    "id": f"call_{len(request['messages'])}_{i}",
                    "type": "function",
                    "function": {"name": n, "arguments": json.dumps(a)},
                }
                for i, (n, a) in enumerate(calls)
            ]
            message["tool_calls"] = asked
        sent = sum(len(str(m.get("content") or "")) for m in request["messages"]) // 4
        usage = {"prompt_tokens": sent, "completion_tokens": 12, "total_tokens": sent + 12}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop", "logprobs": None}
        body = json.dumps(
            {
                "id": "chatcmpl-demo",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": request["model"],
                "choices": [choice],
                "usage": usage,
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


# --- the demo -----------------------------------------------------------------------------------------------------------


def main(out: str, model: str | None = None) -> int:
    """Runs the demo into the folder `out`; returns the exit status. Raises MissingExtra without the extra `demo`, OdographError
    where the model does not answer."""
    for package in ("httpx2", "docstring_parser", "datasets"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra("the demo", "demo")
    folder = Path(out) / time.strftime("%Y%m%d-%H%M%S")
    store = folder / "store"
    folder.mkdir(parents=True, exist_ok=True)
    url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
    server: ThreadingHTTPServer | None = None
    if model is None:
        model = "demo-model"
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Model)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    print(f"An agent with two tools tries {len(TASKS)} tasks {ATTEMPTS} times each, in two processes; model {model} at {url}")
    acknowledged = _record(store, url, model)
    if server is not None:
        server.shutdown()
        server.server_close()
    status = _check(store, acknowledged)
    _say("What was recorded")
    status |= _run("ls", store=store)
    with open(store) as opened:
        best = next((s.id for s in opened.summaries(status="completed", min_reward=1.0)), None) or next(opened.summaries()).id
    _say("One session")
    status |= _run("show", best[-8:], store=store)
    _say("Rewards by task: the groups that a trainer compares")
    status |= _run("stats", "--by", "group", store=store)
    _say("Is it fit to train on? (the killed worker's attempt too: it was resumed)")
    status |= _run("validate", store=store)
    _say("Out again, as rows for Hugging Face datasets and losslessly as our own records")
    status |= _run("export", "--to", "hf", "-o", str(folder / "hf"), "--status", "completed", store=store)
    status |= _run("export", "--to", "jsonl", "-o", str(folder / "jsonl"), store=store)
    status |= _run("import", str(folder / "jsonl" / "data"), store=folder / "copy")
    status |= _load(folder, store)
    _say("All of it as pages in one file, which needs no server")
    pages = folder / "demo.html"
    status |= _run("view", "--html", str(pages), store=store)
    if status:
        print("\nThe demo FAILED.")
    else:
        print(f"\nEverything is in {folder}; look around with: odograph --store {shlex.quote(str(store))} view")
        print(f"Open in a browser: {pages.resolve().as_uri()}")
    return status


def _say(text: str) -> None:
    print(f"\n# {text}", flush=True)


def _run(*arguments: str, store: Path) -> int:
    print(f"$ odograph --store {shlex.quote(str(store))} {shlex.join(arguments)}", flush=True)
    return subprocess.run([sys.executable, "-m", "odograph", "--store", str(store), *arguments], check=False).returncode


def _record(store: Path, url: str, model: str) -> list[tuple[str, str]]:
    """Runs the workers, kills the second in the middle of its work, lets another do the rest. What each was told is kept."""

    def worker(tasks: list[int]) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "odograph.demo", str(store), url, model, ",".join(map(str, tasks))]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    half = len(TASKS) // 2
    first, second = worker(list(range(half))), worker(list(range(half, len(TASKS))))
    assert second.stdout
    lines = [second.stdout.readline() for _ in range(11)]
    second.send_signal(signal.SIGKILL)
    lines += second.stdout.readlines()
    second.wait()
    if not any(line.startswith(_FAILED) for line in lines):
        print("One of the two was killed with SIGKILL in the middle of an attempt; another process resumes it where it stopped.")
        lines += worker(list(range(half, len(TASKS)))).communicate()[0].splitlines(keepends=True)
    lines += first.communicate()[0].splitlines(keepends=True)
    told = [(a, b) for a, _, b in (line.strip().partition(" ") for line in lines if line.endswith("\n")) if b]
    for what, why in told:
        if what == _FAILED:
            raise OdographError(f"the demo's agent did not finish: {why}")
    return told


def _check(store: Path, acknowledged: list[tuple[str, str]]) -> int:
    """Whether every record that a worker was told is kept is there."""
    with open(store) as opened:
        held = {r.id for t in opened.trajectories() for r in t.records}
    lost = [b for _, b in acknowledged if b not in held]
    print(f"{len(acknowledged)} steps were acknowledged, {len(lost)} of them are lost.")
    return 1 if lost or not acknowledged else 0


def _load(folder: Path, store: Path) -> int:
    """Loads what was exported, as its consumers do, and compares."""
    manifest = json.loads((folder / "hf" / "manifest.json").read_text())
    try:
        import datasets

        datasets.disable_progress_bars()
        loaded = datasets.load_dataset(str(folder / "hf"), cache_dir=str(folder / "cache")) if manifest["rows"] else {}
        rows = sum(split.num_rows for split in loaded.values())  # of no rows, where a model completes no attempt, it loads none
    except ImportError:
        raise MissingExtra("loading the export with datasets", "demo") from None
    with open(store) as a, open(folder / "copy") as b:
        same = [t.to_dict() for t in a.trajectories()] == [t.to_dict() for t in b.trajectories()]
    equal = "equal" if same else "NOT equal"
    print(f"datasets loads {rows} rows, the manifest says {manifest['rows']}; the copy is {equal} to the store.")
    return 0 if same and rows == manifest["rows"] else 1


if __name__ == "__main__":
    try:
        asyncio.run(work(sys.argv[1], sys.argv[2], sys.argv[3], [int(n) for n in sys.argv[4].split(",")]))
    except OdographError as error:
        print(_FAILED, " ".join(str(error).split()), flush=True)
