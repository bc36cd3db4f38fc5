"""Forty sessions of a coding agent, for who has none at hand: some look first, some check afterwards, some do neither."""

from __future__ import annotations

import random
from typing import Any

import odograph

TASKS = ("fix the login bug", "rename the setting", "delete old logs", "add a retry", "speed up the query")
COUNT = 40


def record(store: odograph.Store) -> None:
    """Records the sessions."""
    chance = random.Random(7)
    for n in range(COUNT):
        looks, checks = chance.random() < 0.6, chance.random() < 0.5
        plan = [*(["read"] if looks else []), "edit", *(["test"] if checks else [])]
        task = TASKS[n % len(TASKS)]
        about: dict[str, Any] = {"agent": "coder", "model": "local-model", "group": task, "tags": ["demo"]}
        with store.record(task=f"{task} ({n})", **about) as run:
            messages: list[Any] = [{"role": "user", "content": f"{task} ({n})"}]
            for number, tool in enumerate(plan):
                path = f"module_{n}.py"
                call: dict[str, Any] = {
                    "id": f"c{number}",
                    "type": "function",
                    "function": {"name": tool, "arguments": f'{{"path": "{path}"}}'},
                }
                said = {"role": "assistant", "content": f"I {tool} {path}", "tool_calls": [call]}
                result = {"read": f"def f{n}(): ...", "edit": "changed", "test": "3 passed"}[tool]
                with run.step() as step:
                    one = step.llm_call(messages=messages, response=said, usage={"prompt_tokens": 40 + 30 * number})
                    step.action(tool, {"path": path}, result, ok=True, llm_call=one, tool_call_id=call["id"])
                messages = [*messages, said, {"role": "tool", "tool_call_id": call["id"], "content": result}]
            with run.step() as step:
                step.llm_call(messages=messages, response="done", usage={"prompt_tokens": 40 + 30 * len(plan)})
            run.reward(float(checks), name="tests")
            run.finish("done")
