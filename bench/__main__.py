"""`python -m bench`: runs the benchmark and prints its ratios against the budgets. `--json` for scripts, `--quick` for a look."""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .workload import STEPS, long_conversation, new_bytes, steps
from .writers import WRITERS, now, readable, size

PARTS = ("hot_path", "flatness", "bytes_per_step", "crash", "imports", "runtime", "reads", "lineage", "worlds", "viewer", "proxy")


@dataclass
class Result:
    """One figure: a value, what it is compared with in the same run, the ratio, and whether the budget holds."""

    name: str
    value: float
    unit: str
    against: str
    ratio: float
    budget: str
    holds: bool | None


class Bench:
    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.results: list[Result] = []
        self.root = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_DIR")))

    def folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.root))

    def add(self, name: str, value: float, unit: str, against: str, ratio: float, budget: str, holds: bool | None) -> None:
        self.results.append(Result(name, round(value, 4), unit, against, round(ratio, 3), budget, holds))
        print(".", end="", file=sys.stderr, flush=True)

    # --- the hot path ---------------------------------------------------------------------------------------------------

    def _write(self, name: str, trajectories: list[list[Any]]) -> tuple[list[float], float, int]:
        """(microseconds of the agent's thread per step, seconds until all is on disk, bytes)."""
        folder = self.folder()
        writer = WRITERS[name](folder)
        context = writer.begin(0)
        for step in list(steps(10_000, 5)):  # warm
            writer.step(context, step)
        writer.end(context)
        spent: list[float] = []
        gc.collect()
        began = time.perf_counter()
        for number, trajectory in enumerate(trajectories):
            context = writer.begin(number)
            for step in trajectory:
                start = now()
                writer.step(context, step)
                spent.append((now() - start) / 1000)
            writer.end(context)
        writer.close()
        total = time.perf_counter() - began
        used = size(folder)
        shutil.rmtree(folder)
        return spent, total, used

    def hot_path(self) -> None:
        rounds, count = (3, 10) if self.quick else (7, 40)
        for tokens in (False, True):
            data = [list(steps(i, tokens=tokens)) for i in range(count)]
            medians: dict[str, list[float]] = {n: [] for n in WRITERS}
            durable: dict[str, list[float]] = {n: [] for n in WRITERS}
            p99: list[float] = []
            for _ in range(rounds):  # in turn, so that a noisy minute hits all alike
                for name in WRITERS:
                    spent, total, _ = self._write(name, data)
                    medians[name].append(statistics.median(spent))
                    durable[name].append(count * STEPS / total)
                    if name == "odograph":
                        p99.append(sorted(spent)[int(len(spent) * 0.99)])
            kind = "with tokens" if tokens else "text"
            mine = min(medians["odograph"])  # of each writer its quietest round: what else the machine does only adds
            otel, bare = mine / min(medians["otel"]), mine / min(medians["bare"])
            limit, times = (1 / 5, 2.5) if tokens else (1 / 4, 3.0)
            self.add(
                f"hot path, {kind}", mine, "us/step", "OpenTelemetry SDK, batch", otel, f"<= 1/{round(1 / limit)}", otel <= limit
            )
            self.add(f"hot path, {kind}", mine, "us/step", "bare orjson append", bare, f"<= {times:g}", bare <= times)
            late, usual = min(zip(p99, medians["odograph"], strict=True))
            self.add(f"hot path, {kind}, p99", late, "us/step", "its own median", late / usual, "< 10", late / usual < 10)
            speed = statistics.median(durable["odograph"])
            over = statistics.median(a / b for a, b in zip(durable["odograph"], durable["otel"], strict=True))
            part = statistics.median(a / b for a, b in zip(durable["odograph"], durable["bare"], strict=True))
            if not tokens:
                self.add("durable throughput", speed, "steps/s", "OpenTelemetry SDK, batch", over, ">= 8", over >= 8)
                self.add("durable throughput", speed, "steps/s", "bare append, group commit", part, ">= 0.5", part >= 0.5)

    # --- what else has a budget -----------------------------------------------------------------------------------------

    def flatness(self) -> None:
        """Step 1,000 of one trajectory against step 10, with requests of one size, and with growing ones per byte."""
        import odograph

        rounds = 3 if self.quick else 7
        ratios: list[float] = []
        for number in range(rounds):
            data = list(steps(number, 1050))
            writer = WRITERS["odograph"](self.folder())
            context = writer.begin(number)
            spent: list[float] = []
            for step in data:
                start = now()
                writer.step(context, step)
                spent.append((now() - start) / 1000)
            writer.close()
            ratios.append(statistics.median(spent[-100:]) / statistics.median(spent[5:55]))
        ratio = statistics.median(ratios)
        self.add("step 1,000 against step 10", ratio, "ratio", "step 10", ratio, "< 1.3", ratio < 1.3)
        count = 150 if self.quick else 400
        per_byte: list[float] = []
        for number in range(rounds):
            data = list(steps(number, count, grow=True))
            sizes = [len(json.dumps(s.messages)) for s in data]
            store = odograph.open(self.folder())
            with store.record(task="grow") as run:
                spent = []
                for step in data:
                    start = now()
                    run.step().llm_call(model="m", messages=step.messages, response=step.answer)
                    spent.append((now() - start) / 1000)
            store.close()
            last, first = slice(-50, None), slice(20, 70)
            late = statistics.median(t / b for t, b in zip(spent[last], sizes[last], strict=True))
            early = statistics.median(t / b for t, b in zip(spent[first], sizes[first], strict=True))
            per_byte.append(late / early)
        ratio = statistics.median(per_byte)
        self.add(
            f"growing history, time per byte at step {count}", ratio, "ratio", "step 20 to 70", ratio, "flat (< 1.3)", ratio < 1.3
        )

    def bytes_per_step(self) -> None:
        count = 10 if self.quick else 30
        used: dict[str, int] = {}
        for label, tokens, grow in (("text", False, False), ("grow", False, True), ("tokens", True, False)):
            data = [list(steps(i, tokens=tokens, grow=grow)) for i in range(count)]
            used[label] = self._write("odograph", data)[2] // (count * STEPS)
            if label == "grow":
                fresh = sum(new_bytes(s) for t in data for s in t) // (count * STEPS)
                ratio = used["grow"] / fresh
                self.add(
                    "journal, whole history resent", used["grow"], "B/step", "new content", ratio, "linear (< 1.5)", ratio < 1.5
                )
            else:
                otel = self._write("otel", data)[2] // (count * STEPS)
                self.add(f"journal, {label}", used[label], "B/step", "OpenTelemetry, JSON lines", used[label] / otel, "-", None)
        shorter, longer = (self._write("odograph", [list(steps(1, n, grow=True))])[2] / n for n in (20, 100))
        self.add(
            "journal, growing history, 100 steps against 20",
            longer / shorter,
            "ratio",
            "bytes per step at 20",
            longer / shorter,
            "linear (< 1.1)",
            longer / shorter < 1.1,
        )

    def crash(self) -> None:
        """kill -9 in the middle: acknowledged against readable."""
        for name in ("odograph", "otel"):
            folder = self.folder()
            child = subprocess.Popen([sys.executable, "-m", "bench.crash", name, str(folder)], stdout=subprocess.PIPE)
            assert child.stdout
            acknowledged = 0
            while acknowledged < (200 if self.quick else 700):
                acknowledged = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            for line in child.stdout.read().split(b"\n")[:-1]:
                acknowledged = max(acknowledged, int(line))
            child.wait()
            child.stdout.close()
            lost = max(0, acknowledged - readable(name, folder))
            what = "none" if name == "odograph" else "-"
            self.add(
                f"lost at kill -9, {name}",
                lost,
                "steps",
                f"{acknowledged} acknowledged",
                lost / acknowledged,
                what,
                lost == 0 if name == "odograph" else None,
            )

    def imports(self) -> None:
        """Processor time of whole processes, the lowest of rounds in turn: an import, and all that it puts off to a first record."""
        rounds = 5 if self.quick else 25
        # as it is installed: compiled once, whatever the environment of this run says
        compiled = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self.folder())}
        opened = "import odograph; store = odograph.open({!r})"
        first = "run = store.record(task='x'); run.step().llm_call(model='m', messages=[{{'role': 'user'}}], response='r')"
        programs = {
            "import odograph": "import odograph",
            "import odograph, open a store": opened,
            "import odograph, open a store, record a call": f"{opened}; {first}",
            "import msgspec, orjson": "import msgspec, orjson",
        }

        def spent(code: str) -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", code.format(str(self.folder()))], check=True, env=compiled)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        for code in ("pass", *programs.values()):
            spent(code)
        took = {code: min(times) for code, times in _in_turn(rounds, spent, ["pass", *programs.values()]).items()}
        for name, code in programs.items():
            ratio = took[code] / took["pass"]
            budget, holds = ("<= 5", ratio <= 5) if name == "import odograph" else ("-", None)
            self.add(name, took[code] * 1000, "ms", "bare python", ratio, budget, holds)
        import msgspec
        import orjson
        import tqdm

        import odograph

        total = sum(_package_size(Path(str(p.__file__)).parent) for p in (msgspec, orjson, tqdm, odograph)) / 1e6
        self.add("base install", total, "MB", "15 MB", total / 15, "<= 15 MB", total <= 15)

    def runtime(self) -> None:
        """What a step of the runtime takes beside the model and the tool: 200 steps against a model that answers at once.

        The same requests by the bare HTTP client are what asking costs anyway: what is above them is the runtime's.
        """
        import asyncio

        import httpx2
        import orjson

        import odograph
        from odograph import Agent, Runners, Task, TaskConfig, TaskRunMode

        steps, rounds = 200, 2 if self.quick else 5

        def add(a: int, b: int) -> int:
            """Adds."""
            return a + b

        async def ours(url: str, store: Any) -> list[float]:
            agent = Agent(model="m", base_url=url, tools=[add], max_steps=steps + 1)
            task = Task(input="count", agent=agent, conf=TaskConfig(run_mode=TaskRunMode.INTERACTIVE))
            spent: list[float] = []
            finished = False
            while not finished:
                start = now()
                finished, _, response = await Runners.step(task, store=store)
                spent.append((now() - start) / 1e6)
            assert response.answer and len(spent) == steps
            return spent

        async def bare(url: str, bodies: list[Any]) -> list[float]:
            spent: list[float] = []
            async with httpx2.AsyncClient() as client:
                for body in bodies:
                    start = now()
                    content = orjson.dumps(body)
                    orjson.loads((await client.post(f"{url}/chat/completions", content=content)).content)
                    spent.append((now() - start) / 1e6)
            return spent

        server = subprocess.Popen([sys.executable, "-m", "bench.model", str(steps)], stdout=subprocess.PIPE)
        assert server.stdout
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        whole: list[float] = []
        over: list[float] = []
        flat: list[float] = []
        try:
            with odograph.open(self.folder()) as store:
                for _ in range(rounds):
                    mine = asyncio.run(ours(url, store))
                    bodies = [c.request for c in list(store.trajectories())[-1].llm_calls]
                    floor = asyncio.run(bare(url, bodies))
                    whole.append(statistics.median(mine))
                    extra = [a - b for a, b in zip(mine, floor, strict=True)]
                    over.append(statistics.median(extra))
                    flat.append(statistics.median(extra[-20:]) / statistics.median(extra[5:25]))
        finally:
            server.kill()
            server.wait()
            server.stdout.close()
        took, above = statistics.median(whole), statistics.median(over)
        self.add("runtime, a step in all", took, "ms/step", "3 ms", took / 3, "< 3 ms", took < 3)
        self.add("runtime, above its HTTP request", above, "ms/step", "the bare request", took / (took - above), "-", None)
        ratio = statistics.median(flat)
        self.add("runtime, above its request, step 200 against 10", ratio, "ratio", "step 10", ratio, "< 1.3", ratio < 1.3)
        if peer := os.environ.get("AWORLD_PYTHON"):  # bench/peer_aworld.py says how
            self._beside_aworld(peer, took)

    def _beside_aworld(self, python: str, ours: float) -> None:
        """AWorld's step in all, of 51: it takes half a minute."""
        server = subprocess.Popen([sys.executable, "-m", "bench.model", "51"], stdout=subprocess.PIPE)
        assert server.stdout
        try:
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
            command = [python, str(Path(__file__).parent / "peer_aworld.py"), url, "51"]
            said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
            spent = json.loads(said.splitlines()[-1])
            theirs, ratio = statistics.median(spent), statistics.median(spent[-10:]) / statistics.median(spent[:10])
            self.add("AWorld, a step in all", theirs, "ms/step", "ours", theirs / ours, "-", None)
            self.add("AWorld, step 50 against 10", ratio, "ratio", "step 10", ratio, "-", None)
        finally:
            server.kill()
            server.wait()
            server.stdout.close()

    def reads(self) -> None:
        """One trajectory by id among many, catching up, listing: in the journal, without segments yet."""
        import odograph

        count = 2000 if self.quick else 20_000
        folder = self.folder()
        ids: list[str] = []
        with odograph.open(folder) as store:
            for number in range(count):
                with store.record(task=f"task {number}", agent="a", group=f"g{number % 50}") as run:
                    run.step(observation="o").llm_call(
                        model="m", messages=[{"role": "user", "content": str(number)}], response="r"
                    )
                    run.reward(1.0)
                ids.append(run.id)
        with odograph.open(folder) as store:
            start = time.perf_counter()
            assert len(store) == count
            rate = count / (time.perf_counter() - start)
            self.add("catalog catches up", rate, "trajectories/s", f"{count} trajectories", 1.0, "-", None)
            spent: list[float] = []
            for number in range(200):
                start = time.perf_counter()
                store.trajectory(ids[(number * 7919) % count])
                spent.append((time.perf_counter() - start) * 1000)
            middle = statistics.median(spent)
            self.add(f"one trajectory of {count} by id", middle, "ms", "5 ms", middle / 5, "<= 5 ms", middle <= 5)
            start = time.perf_counter()
            assert sum(1 for _ in store.summaries(group="g7")) == count // 50
            self.add("list a group", (time.perf_counter() - start) * 1000, "ms", f"{count // 50} of {count}", 1.0, "-", None)
        from . import reading

        for part in (reading.files, reading.interleaved, reading.again):
            part(self)

    def lineage(self) -> None:
        """Views and samples of one long conversation, against a copy of the ids of all its prompts, which whoever reads them has to
        make; and per call, of 1,600 calls against 100, though their prompts are 13 times as long."""
        from odograph.lineage import chains

        def spent(what: Callable[[], object]) -> float:
            best = []
            for _ in range(3):
                gc.collect()
                start = time.perf_counter()
                what()
                best.append(time.perf_counter() - start)
            return min(best)

        few, many = 100, 400 if self.quick else 1600
        took: dict[str, list[float]] = {"view": [], "samples": [], "copy": []}
        for calls in (few, many):
            t = long_conversation(calls)
            prompts = [c.prompt_token_ids or [] for c in t.llm_calls]
            took["view"].append(spent(functools.partial(chains, t)))
            took["samples"].append(spent(functools.partial(_built, t)))
            took["copy"].append(spent(lambda prompts=prompts: [list(p) for p in prompts]))
        for name in ("view", "samples"):
            short, long = took[name][0] / few * 1e6, took[name][1] / many * 1e6
            copied = took[name][1] / took["copy"][1]
            self.add(f"{name} of {many:,} calls", long, "us/call", "a copy of all prompts' ids", copied, "-", None)
            self.add(f"{name} of {many:,} calls", long, "us/call", f"of {few} calls", long / short, "-", None)

    def worlds(self) -> None:
        """See `bench/worlds.py`."""
        from . import worlds

        for part in (worlds.engine, worlds.as_of, worlds.labelling):
            part(self)

    def viewer(self) -> None:
        """See `bench/viewer.py`."""
        from . import viewer

        viewer.all_parts(self)

    def proxy(self) -> None:
        """See `bench/proxies.py`."""
        from . import proxies

        proxies.passing(self)


def _in_turn(rounds: int, measure: Callable[[str], float], what: list[str]) -> dict[str, list[float]]:
    """Measurements of several things in turn, so that a noisy minute hits all alike."""
    found: dict[str, list[float]] = {one: [] for one in what}
    for _ in range(rounds):
        for one in what:
            found[one].append(measure(one))
    return found


def _built(t: Any) -> list[Any]:
    from odograph.training.samples import samples

    return list(samples([t], edits="mask", logprobs=True))


def _package_size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def main() -> int:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a measurement")
    parser.add_argument("--only", choices=PARTS)
    args = parser.parse_args()
    bench = Bench(args.quick)
    parts: dict[str, Callable[[], None]] = {name: getattr(bench, name) for name in PARTS}
    try:
        for name, run in parts.items():
            if args.only in (None, name):
                run()
    finally:
        shutil.rmtree(bench.root, ignore_errors=True)
    print(file=sys.stderr)
    if args.json:
        about = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
        print(json.dumps({"about": about, "results": [asdict(r) for r in bench.results]}))
        return 0
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores\n")
    print(f"{'what':<52} {'value':>12} {'unit':<15} {'ratio':>8}  {'against':<28} {'budget':<16} holds")
    for r in bench.results:
        holds = {True: "yes", False: "NO", None: ""}[r.holds]
        print(f"{r.name:<52} {r.value:>12,.2f} {r.unit:<15} {r.ratio:>8.3f}  {r.against:<28} {r.budget:<16} {holds}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
