"""Worlds: what spawning, stepping, forking, reading and labelling cost."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PEER = """
import os, sys, time
import daft
from daft.functions import prompt
daft.set_provider("openai", api_key="x", base_url=sys.argv[1])
frame = daft.from_pydict({"text": ["a session " + "of turns " * 100 + str(n) for n in range(int(sys.argv[2]))]})
begun = time.perf_counter()
found = frame.with_column("said", prompt(daft.col("text"), model="m", provider="openai", use_chat_completions=True)).to_pydict()
assert all(found["said"]), "not all were answered"
print(time.perf_counter() - begun)
"""


def _seconds(what: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in (folder / "lake").rglob("*.parquet"))


@contextmanager
def _judge() -> Iterator[str]:
    """The address of a judge that takes 20 ms."""
    stub = subprocess.Popen([sys.executable, "-m", "bench.judge_stub", "0.02"], stdout=subprocess.PIPE, text=True)
    try:
        assert stub.stdout is not None
        yield f"http://127.0.0.1:{int(stub.stdout.readline())}/v1"
    finally:
        stub.kill()
        stub.wait()


async def _bare(url: str, count: int) -> float:
    """Requests a second of aiohttp alone, 64 at once: what this server and this machine can do."""
    import aiohttp

    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "a session " + "of turns " * 300}]}).encode()
    waiting = iter(range(count))

    async def work(session: aiohttp.ClientSession) -> None:
        for _ in waiting:
            async with session.post(f"{url}/chat/completions", data=body) as response:
                json.loads(await response.read())

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        begun = time.perf_counter()
        await asyncio.gather(*(work(session) for _ in range(64)))
    return count / (time.perf_counter() - begun)


def engine(bench: Any) -> None:
    """Many entities: spawning, stepping, forking, and a step that changes a hundredth."""
    from odograph.worlds import Label, SamplingProcessor, ScoringProcessor, StorageConfig, SyncWorldRuntime, Trajectory, Turn

    count = 10_000 if bench.quick else 100_000
    chance = random.Random(1)
    folder = bench.folder()
    with SyncWorldRuntime() as runtime:
        world = runtime.world("w", StorageConfig(folder), [SamplingProcessor(), ScoringProcessor()])
        turns = [Turn("user", " ".join(chance.choices(("fix", "read", "test", "the", "login"), k=200)))]
        many = [Trajectory.from_turns(f"t{n}", [*turns, Turn("assistant", f"done {n}")]) for n in range(count // 10)]
        texts = [" ".join(chance.choices(("it", "read", "the", "file", "before", "after"), k=12)) for _ in range(5000)]
        pairs = [
            (
                t,
                Label(
                    technique=f"k{k}",
                    description=f"rubric {k}",
                    status="ok",
                    score=chance.random(),
                    rationale=chance.choice(texts),
                ),
            )
            for t in many
            for k in range(10)
        ]
        bench.add(
            "worlds: spawn",
            count / _seconds(lambda: world.spawn_many(pairs)),
            "entities/s",
            f"{count:,} entities",
            1.0,
            "-",
            None,
        )
        bench.add("worlds: step that writes all", _seconds(world.step), "s", f"{count:,} entities", 1.0, "-", None)
        whole = _size(folder)
        bench.add("worlds: step that changes nothing", _seconds(world.step), "s", f"{count:,} entities", 1.0, "-", None)
        small = runtime.world("small", StorageConfig(folder), [])
        small.spawn(pairs[0][1])
        small.step()
        both = []
        for name, one in (("small", small), ("large", world)):
            before = _size(folder)
            took = min(_seconds(lambda one=one, name=name, n=n: one.fork(f"{name}-{n}")) for n in range(20))
            both.append((took, (_size(folder) - before) / 20))
        ratio = both[1][0] / both[0][0]
        bench.add("worlds: fork", both[1][0] * 1e3, "ms", "fork of one entity", ratio, "<= 2", ratio <= 2)
        bench.add("worlds: fork on disk", both[1][1], "bytes", "fork of one entity", both[1][1] / both[0][1], "<= 1.1", None)
        before = _size(folder)
        for id in range(1, count, 100):
            label = pairs[id - 1][1]
            world.update(
                id, Label(technique=label.technique, description=label.description, status="ok", rationale=chance.choice(texts))
            )
        world.step()
        share = (_size(folder) - before) / whole
        bench.add(
            "worlds: step that changes 1 %",
            (_size(folder) - before) / 1e3,
            "kB",
            "the step that wrote all",
            share,
            "<= 0.015",
            share <= 0.015,
        )


def as_of(bench: Any) -> None:
    """The rows as of a tick, through ten ticks that changed a hundredth each."""
    asyncio.run(_as_of(bench))


async def _as_of(bench: Any) -> None:
    import daft

    from odograph.worlds import Label, StorageConfig, Trajectory, WorldRuntime

    count = 100_000 if bench.quick else 1_000_000
    chance = random.Random(1)
    labels = [
        Label(technique=f"k{n % 10}", status="ok", value=chance.choice(("good", "bad")), score=chance.random())
        for n in range(1000)
    ]
    sessions = [Trajectory(trajectory_id=f"t{n}", source="cli", total_turns=n % 40) for n in range(count // 10)]
    async with WorldRuntime() as runtime:
        world = runtime.world("w", StorageConfig(bench.folder()))
        await world.spawn_many((sessions[n // 10], labels[chance.randrange(1000)]) for n in range(count))
        await world.step()
        for _ in range(10):
            for id in chance.sample(range(1, count + 1), count // 100):
                await world.update(id, labels[chance.randrange(1000)])
            await world.step()
        took = {}
        for name, kinds in (("label", (Label,)), ("trajectory and label", (Trajectory, Label))):
            handed, used = [], []
            for _ in range(5):
                begun = time.perf_counter()
                frame = await world.query(*kinds, tick=10)
                handed.append(time.perf_counter() - begun)
                frame.groupby("label__value").agg(daft.col("label__score").mean()).to_pylist()
                used.append(time.perf_counter() - begun)
            took[name] = min(handed)
            bench.add(
                f"worlds: {count:,} rows as of a tick ({name})",
                took[name],
                "s",
                "and the mean score by value",
                min(used) / took[name],
                "-",
                None,
            )
        ok = took["trajectory and label"] <= 0.3
        bench.add(
            f"worlds: {count:,} labelled trajectories as of a tick",
            took["trajectory and label"],
            "s",
            "0.3 s",
            took["trajectory and label"] / 0.3,
            "<= 0.3 s",
            None if bench.quick else ok,
        )


def labelling(bench: Any) -> None:
    """Labelling against a judge that takes 20 ms, 64 at once, beside `daft.functions.prompt`."""
    from odograph.worlds import Label, LabelingConfig, LabelingProcessor, StorageConfig, SyncWorldRuntime, Trajectory, Turn

    count, peers = (1000, 100) if bench.quick else (10_000, 400)
    with _judge() as url, SyncWorldRuntime() as runtime:
        config = LabelingConfig(base_url=url, api_key="x", max_concurrency=64, progress=False)
        world = runtime.world("w", StorageConfig(bench.folder()), [LabelingProcessor()], [config])
        warm = runtime.world("warm", StorageConfig(bench.folder()), [LabelingProcessor()], [config])
        warm.spawn(Trajectory.from_turns("w", [Turn("user", "warm")]), Label(technique="t", description="d"))
        warm.step()
        text = "a session " + "of turns " * 100
        many = [
            (Trajectory.from_turns(f"t{n}", [Turn("user", f"{text} {n}")]), Label(technique="t", description="d"))
            for n in range(count)
        ]
        world.spawn_many(many)
        del many
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rate = count / _seconds(world.step)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
        again = _seconds(world.step)
        bare = asyncio.run(_bare(url, count))
        environment = {**os.environ, "DAFT_PROGRESS_BAR": "0"}
        command = [sys.executable, "-c", _PEER, url, str(peers)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    bench.add("worlds: labels", rate, "rows/s", f"{count:,} rows, 64 at once, 20 ms", rate / 3200, ">= 800", rate >= 800)
    bench.add("worlds: labels", rate, "rows/s", "aiohttp alone", rate / bare, "-", None)
    bench.add("worlds: labelling's memory", grown, "MB", f"{count:,} rows", 1.0, "-", None)
    bench.add("worlds: a step that asks nothing", again, "s", f"{count:,} rows", 1.0, "-", None)
    if done.returncode:
        print(f"daft.functions.prompt failed: {done.stderr[-300:]}", file=sys.stderr)
        return
    peer = peers / float(done.stdout.split()[-1])
    bench.add("worlds: labels", rate, "rows/s", "daft.functions.prompt", rate / peer, ">= 7", rate / peer >= 7)
