"""What it costs to import one long session of an agent: `python bench/sessions.py [TURNS]` writes sessions of Claude Code, Codex and
Gemini CLI and imports each twice, in a process of its own each time. Processor time and peak memory against the file's size."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORDS = "the quick brown fox jumps over the lazy dog near the old harbour wall "


def at(n: int) -> str:
    return f"2026-03-01T{n // 3600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d}.000Z"


def claude(turns: int) -> Iterator[dict[str, Any]]:
    above: str | None = None

    def line(uuid: str, n: int, message: dict[str, Any], **more: Any) -> dict[str, Any]:
        nonlocal above
        about = {"parentUuid": above, "isSidechain": False, "sessionId": "5b6e0d52-0001", "type": message["role"], "uuid": uuid}
        above = uuid
        return {**about, "message": message, "timestamp": at(n), **more}

    yield line("u", 0, {"role": "user", "content": "Count all"})
    for n in range(turns):
        usage = {"input_tokens": 3, "cache_read_input_tokens": 100 + n, "output_tokens": 20}
        reply = {"id": f"m{n}", "role": "assistant", "model": "claude-x", "usage": usage}
        yield line(f"a{n}", n, {**reply, "content": [{"type": "text", "text": f"{n}: {WORDS}"}]})
        yield line(f"b{n}", n, {**reply, "content": [{"type": "tool_use", "id": f"t{n}", "name": "Bash", "input": {"n": n}}]})
        result = [{"type": "tool_result", "tool_use_id": f"t{n}", "content": f"{n} {WORDS * 2}"}]
        yield line(f"r{n}", n, {"role": "user", "content": result}, toolUseResult={"stdout": f"{n} {WORDS * 2}", "stderr": ""})


def codex(turns: int) -> Iterator[dict[str, Any]]:
    def line(n: int, kind: str, **payload: Any) -> dict[str, Any]:
        return {"timestamp": at(n), "type": kind, "payload": payload}

    yield line(0, "session_meta", id="0196a000-0000-7000-8000-000000000001", timestamp=at(0), cli_version="1")
    yield line(0, "response_item", type="message", role="user", content=[{"type": "input_text", "text": "Count all"}])
    for n in range(turns):
        yield line(n, "response_item", type="reasoning", summary=[{"type": "summary_text", "text": f"{n} {WORDS}"}])
        yield line(n, "response_item", type="function_call", name="shell", arguments=f'{{"n": {n}}}', call_id=f"c{n}")
        total = {"input_tokens": 100 * n, "output_tokens": 20 * n, "total_tokens": 120 * n + 1}
        yield line(n, "event_msg", type="token_count", info={"total_token_usage": total, "last_token_usage": total})
        yield line(n, "response_item", type="function_call_output", call_id=f"c{n}", output=f"{n} {WORDS * 2}")


def gemini(turns: int) -> Iterator[dict[str, Any]]:
    yield {"sessionId": "s", "projectHash": "h", "startTime": at(0)}
    yield {"id": "u", "timestamp": at(0), "type": "user", "content": [{"text": "Count all"}]}
    for n in range(turns):
        reply = {"id": f"g{n}", "timestamp": at(n), "type": "gemini", "content": f"{n} {WORDS}", "model": "gemini-x"}
        yield reply
        result = [{"functionResponse": {"id": f"c{n}", "name": "ls", "response": {"output": f"{n} {WORDS * 2}"}}}]
        yield {**reply, "toolCalls": [{"id": f"c{n}", "name": "ls", "args": {"n": n}, "status": "success", "result": result}]}


def measure(path: str, store: str) -> None:
    import odograph

    began = time.process_time()
    with odograph.open(store) as opened:
        report = opened.import_sessions(path)
    size, peak = Path(path).stat().st_size / 1e6, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    took = f"{time.process_time() - began:.1f} s of a processor, {peak:.0f} MB, {peak / size:.1f} times the file"
    print(f"{Path(path).name}, {size:.0f} MB, new {report.imported}: {took}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(*sys.argv[1:])
        sys.exit()
    for make in (claude, codex, gemini):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, make.__name__, "session.jsonl")
            path.parent.mkdir()
            with path.open("w") as file:
                file.writelines(json.dumps(one) + "\n" for one in make(int(sys.argv[1]) if len(sys.argv) > 1 else 40_000))
            for _ in range(2):
                subprocess.run([sys.executable, __file__, str(path), str(Path(folder, "store"))], check=True)
