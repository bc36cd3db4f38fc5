"""A session as a log of Inspect, for Inspect's own viewer, in an environment that has Inspect:

    python3 -m venv .venv-inspect && .venv-inspect/bin/pip install inspect_ai==0.3.285
    INSPECT_PYTHON=.venv-inspect/bin/python python -m bench --only viewer

The session comes as lines of JSON on standard input, one step each: `[asked, answered, arguments, result]`.
"""

from __future__ import annotations

import json
import sys


def main(out: str) -> None:
    """Writes the log."""
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSpec, write_eval_log
    from inspect_ai.model import ChatMessageAssistant, ChatMessageTool, ChatMessageUser
    from inspect_ai.tool import ToolCall

    messages: list[object] = []
    for n, line in enumerate(sys.stdin):
        asked, answered, arguments, result = json.loads(line)
        call = ToolCall(id=f"c{n}", function="run", arguments=arguments)
        messages += [ChatMessageUser(content=asked), ChatMessageAssistant(content=answered, tool_calls=[call])]
        messages.append(ChatMessageTool(content=result, tool_call_id=f"c{n}", function="run"))
    about = EvalSpec(
        created="2026-01-01T00:00:00+00:00",
        task="t",
        dataset=EvalDataset(samples=1, sample_ids=["1"]),
        model="m/m",
        config=EvalConfig(epochs=1),
    )
    sample = EvalSample(id="1", epoch=1, input="a long session", target="", messages=messages)
    write_eval_log(EvalLog(status="success", eval=about, samples=[sample]), out)


if __name__ == "__main__":
    main(sys.argv[1])
