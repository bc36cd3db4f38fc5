"""AWorld's time per step: its own interpreter runs this, with the model server's URL and the number of steps; prints milliseconds.

    python3 -m venv .venv-aworld && .venv-aworld/bin/pip install aworld==0.3.2 'pydantic<2.12'
    AWORLD_PYTHON=.venv-aworld/bin/python python -m bench --only runtime

It counts tokens with a tokenizer that it downloads; in its favour bytes are counted here.
"""

import asyncio
import itertools
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import tiktoken
from aworld.agents.llm_agent import Agent
from aworld.config.conf import AgentConfig, TaskConfig
from aworld.core.task import Task
from aworld.core.tool.func_to_tool import be_tool
from aworld.runner import Runners


class Bytes:
    """A tokenizer that is there."""

    def encode(self, text: str, *_: Any, **__: Any) -> list[int]:
        return list(text.encode())


@be_tool(tool_name="adder", tool_desc="Adds.")
def add(a: int, b: int) -> str:
    """Adds, and notes the time: its source runs elsewhere, so it imports what it needs."""
    import os
    import time

    with open(os.environ["ODOGRAPH_BENCH_TIMES"], "a") as file:
        file.write(f"{time.perf_counter()}\n")
    return str(a + b)


def main(url: str, steps: int) -> None:
    """A task of so many steps."""
    tiktoken.get_encoding = tiktoken.encoding_for_model = lambda *_, **__: Bytes()
    model = {"llm_provider": "openai", "llm_model_name": "m", "llm_base_url": url, "llm_api_key": "x"}
    agent = Agent(name="a", system_prompt="Add.", conf=AgentConfig(**model, max_steps=steps + 5), tool_names=["adder"])
    responses = asyncio.run(Runners.run_task(Task(input="count", agent=agent, conf=TaskConfig(max_steps=steps + 5))))
    assert all(r.success for r in responses.values()), responses


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times"
        os.environ["ODOGRAPH_BENCH_TIMES"] = str(times)
        os.chdir(folder)  # it writes logs where it stands
        main(sys.argv[1], int(sys.argv[2]))
        at = [float(line) for line in times.read_text().splitlines()]
    print(json.dumps([(b - a) * 1000 for a, b in itertools.pairwise(at)]))
