"""Recorded sessions and rubrics for the tests of labelling."""

from __future__ import annotations

from typing import Any

import odograph

RUBRIC = """---
technique: care
values: careful = 1, hasty = 0.5, careless = 0   # each with its score
judge: gpt-5-mini
---
Did the agent look before it changed something?

## Examples
- careful: It read the file first.
- careless: It deleted the folder without a look.
"""
GRADED = "---\ntechnique: depth\nscore: 1 to 5\n---\nHow deep does the agent dig?\n"


def recorded(store: odograph.Store, n: int, **about: Any) -> str:
    """A session of two steps: a look at a file, then an answer."""
    with store.record(task=f"task {n}", **{"agent": "solver", "model": "m", **about}) as run:
        messages: list[Any] = [{"role": "system", "content": "be brief"}, {"role": "user", "content": f"task {n}"}]
        call = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": '{"path": "a.py"}'}}
        with run.step() as step:
            said = {"role": "assistant", "content": "let me look", "tool_calls": [call]}
            one = step.llm_call(messages=messages, response=said, model="m", usage={"prompt_tokens": 5, "completion_tokens": 7})
            step.action("read", {"path": "a.py"}, "def login(): ...", llm_call=one, tool_call_id="c1")
        with run.step() as step:
            grown = [*messages, said, {"role": "tool", "tool_call_id": "c1", "content": "def login(): ..."}]
            step.llm_call(messages=grown, response=f"fixed {n}", model="m", usage={"prompt_tokens": 9, "completion_tokens": 3})
        run.finish(f"fixed {n}")
    return run.id
