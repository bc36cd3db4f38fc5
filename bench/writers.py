"""What is compared: Odograph, a bare append of the same content, and the OpenTelemetry SDK with its batch processor."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import orjson

from .workload import Step


class Writer(Protocol):
    """Records steps of trajectories into a folder; after `close` all is on disk."""

    def begin(self, number: int) -> Any: ...
    def step(self, context: Any, step: Step) -> None: ...
    def end(self, context: Any) -> None: ...
    def close(self) -> None: ...


class Odograph:
    """Everything as records: step, context, call, action, reward, each with the operating system when its call returns."""

    def __init__(self, folder: Path) -> None:
        import odograph

        self._store = odograph.open(folder)

    def begin(self, number: int) -> Any:
        return self._store.record(task=f"task-{number % 500}", agent=f"agent-{number % 7}", model="m")

    def step(self, context: Any, step: Step) -> None:
        with context.step() as s:
            s.context("kb", step.context, query="k")
            call = s.llm_call(
                model="m",
                messages=step.messages,
                response=step.answer,
                usage=step.usage,
                params={"temperature": 0.7},
                prompt_token_ids=step.prompt_ids or None,
                token_ids=step.answer_ids or None,
                logprobs=step.logprobs or None,
            )
            s.action("search", step.arguments, step.result, ok=step.ok, llm_call=call)
            s.reward(step.reward)

    def end(self, context: Any) -> None:
        context.finish()

    def close(self) -> None:
        self._store.close()


class Bare:
    """The physical limit: one orjson line and one write a step, with the same group commit in the background."""

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / "steps.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._sync, daemon=True)
        self._thread.start()

    def _sync(self) -> None:
        while not self._closed.wait(0.05):
            os.fdatasync(self._fd)

    def begin(self, number: int) -> Any:
        return f"trajectory-{number}"

    def step(self, context: Any, step: Step) -> None:
        os.write(self._fd, orjson.dumps({"t": context, "s": step.plain()}) + b"\n")

    def end(self, context: Any) -> None:
        pass

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        os.fdatasync(self._fd)
        os.close(self._fd)


class OpenTelemetry:
    """Spans as GenAI instrumentation makes them, through BatchSpanProcessor to JSON lines."""

    def __init__(self, folder: Path) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

        class Lines(SpanExporter):
            def __init__(self, path: Path) -> None:
                self._file = path.open("ab")

            def export(self, spans: Any) -> SpanExportResult:
                for span in spans:
                    self._file.write(span.to_json(indent=None).encode() + b"\n")
                self._file.flush()
                return SpanExportResult.SUCCESS

            def shutdown(self) -> None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()

            def force_flush(self, timeout_millis: int = 30_000) -> bool:
                return True

        self._trace = trace
        self._provider = TracerProvider()
        self._provider.add_span_processor(BatchSpanProcessor(Lines(folder / "spans.jsonl")))
        self._tracer = self._provider.get_tracer("bench")

    def begin(self, number: int) -> Any:
        root = self._tracer.start_span("trajectory", attributes={"trajectory": number})
        return root, self._trace.set_span_in_context(root)

    def step(self, context: Any, step: Step) -> None:
        span = self._tracer.start_as_current_span
        with span("step", context=context[1]) as outer:
            with span("context", attributes={"source": "kb", "content": json.dumps(step.context)}):
                pass
            attributes: dict[str, Any] = {
                "gen_ai.request.model": "m",
                "gen_ai.request.temperature": 0.7,
                "gen_ai.usage.input_tokens": step.usage["prompt_tokens"],
                "gen_ai.usage.output_tokens": step.usage["completion_tokens"],
                "gen_ai.input.messages": json.dumps(step.messages),
                "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": step.answer}]),
            }
            if step.prompt_ids:
                attributes |= {"prompt_token_ids": step.prompt_ids, "token_ids": step.answer_ids, "logprobs": step.logprobs}
            with span("llm", attributes=attributes):
                pass
            with span(
                "action",
                attributes={"name": "search", "arguments": json.dumps(step.arguments), "result": step.result, "ok": step.ok},
            ):
                pass
            outer.set_attribute("reward", step.reward)

    def end(self, context: Any) -> None:
        context[0].end()

    def close(self) -> None:
        self._provider.shutdown()


WRITERS: dict[str, type[Any]] = {"odograph": Odograph, "bare": Bare, "otel": OpenTelemetry}


def readable(name: str, folder: Path) -> int:
    """Steps that can be read back from a folder after its writer is gone."""
    if name == "odograph":
        import odograph

        with odograph.open(folder) as store:
            return sum(sum(1 for s in t.steps if s.rewards) for t in store.trajectories())
    path = folder / ("steps.jsonl" if name == "bare" else "spans.jsonl")
    count = 0
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        count += name == "bare" or value.get("name") == "step"
    return count


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def now() -> int:
    return time.perf_counter_ns()
