"""Long sessions: what an import of four times the turns costs, in time and in memory, for every importer."""

from __future__ import annotations

import json
import sqlite3
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import importers
from tests.cost import costs

from . import agents
from .agents import MS, said, use
from .agents import result as gave
from .test_growing import ATIF, BENCH, EVAL, SAMPLE, T, codex, counts, gemini, jsonl, qwen, write
from .test_mini_swe_agent import calls_file
from .test_openhands import v0, v1
from .test_swe_agent import old
from .test_tau2_bench import results
from .test_tau_bench import episode
from .test_verifiers_traces import TRACE

Turns = Callable[[int], Iterator[Any]]


def _text(n: int) -> str:
    return f"result {n} " * 12


def _asked(n: int) -> dict[str, Any]:
    return {"id": f"c{n}", "type": "function", "function": {"name": "look", "arguments": json.dumps({"at": n})}}


def _chat(turns: int) -> list[dict[str, Any]]:
    """A conversation in OpenAI's shape."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "look"}]
    for n in range(turns):
        messages.append({"role": "assistant", "content": None, "tool_calls": [_asked(n)]})
        messages.append({"role": "tool", "tool_call_id": f"c{n}", "content": _text(n)})
    return [*messages, {"role": "assistant", "content": "done"}]


def _blocks(turns: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A conversation in Anthropic's shape."""
    yield "user", [said("look")]
    for n in range(turns):
        yield "assistant", [use(f"c{n}", "look", at=n)]
        yield "user", [gave(f"c{n}", _text(n))]
    yield "assistant", [said("done")]


def _claude(turns: int) -> Iterator[dict[str, Any]]:
    for n, (role, content) in enumerate(_blocks(turns)):
        message = {"role": role, "content": content, **({"id": f"m{n}", "model": "m"} if role == "assistant" else {})}
        about = {"sessionId": "s", "timestamp": T.format(0), "isSidechain": False}
        yield {"uuid": f"u{n}", "parentUuid": f"u{n - 1}" if n else None, **about, "type": role, "message": message}


def _stream(turns: int) -> Iterator[dict[str, Any]]:
    yield {"type": "system", "subtype": "init", "session_id": "s", "model": "m"}
    for n, (role, content) in enumerate(_blocks(turns)):
        message = {"role": role, "content": content, **({"id": f"m{n}", "model": "m"} if role == "assistant" else {})}
        yield {"type": role, "session_id": "s", "uuid": f"u{n}", "parent_tool_use_id": None, "message": message}


def _codex(turns: int) -> Iterator[dict[str, Any]]:
    yield codex("session_meta", 0, id="019d0000-0000-7000-8000-0000000000aa", timestamp=T.format(0))
    yield codex("response_item", 0, type="message", role="user", content=[{"type": "input_text", "text": "look"}])
    for n in range(turns):
        yield codex("response_item", 1, type="function_call", name="look", arguments=f'{{"at": {n}}}', call_id=f"c{n}")
        yield counts(1, 10 * n + 10)
        yield codex("response_item", 2, type="function_call_output", call_id=f"c{n}", output=_text(n))


def _exec(turns: int) -> Iterator[dict[str, Any]]:
    yield {"type": "thread.started", "thread_id": "t"}
    for n in range(turns):
        yield {"type": "turn.started"}
        item = {"id": f"i{n}", "type": "command_execution", "command": f"ls {n}", "aggregated_output": _text(n), "exit_code": 0}
        yield {"type": "item.completed", "item": item}
        yield {"type": "turn.completed", "usage": {"input_tokens": 9, "output_tokens": 2}}


def _gemini(turns: int) -> Iterator[dict[str, Any]]:
    yield {"sessionId": "g", "projectHash": "h", "startTime": T.format(0), "kind": "main"}
    yield gemini(0, "user", [{"text": "look"}])
    for n in range(turns):
        gives = [{"functionResponse": {"id": f"c{n}", "response": {"output": _text(n)}}}]
        asked = {"id": f"c{n}", "name": "look", "args": {"at": n}, "status": "success", "result": gives}
        told = gemini(0, "gemini", _text(n), model="m", tokens={"input": n, "output": 2}, toolCalls=[asked])
        yield {**told, "id": f"g{n}"}


def _qwen(turns: int) -> Iterator[dict[str, Any]]:
    yield qwen(0, "user", {"text": "look"}, parent=None)
    for n in range(turns):
        about = {"timestamp": T.format(0)}
        yield (
            qwen(2 * n + 1, "assistant", {"functionCall": {"id": f"c{n}", "name": "look", "args": {"at": n}}}, model="m") | about
        )
        gives = {"functionResponse": {"id": f"c{n}", "response": {"output": _text(n)}}}
        yield qwen(2 * n + 2, "tool_result", gives, toolCallResult={"status": "success"}) | about


def _pi(turns: int) -> Iterator[dict[str, Any]]:
    def line(n: int, **message: Any) -> dict[str, Any]:
        return {
            "type": "message",
            "id": f"{n}",
            "parentId": f"{n - 1}" if n else None,
            "timestamp": T.format(0),
            "message": message,
        }

    yield {"type": "session", "id": "p", "timestamp": T.format(0), "cwd": "/w", "modelId": "m"}
    yield line(0, role="user", content="look")
    for n in range(turns):
        yield line(
            2 * n + 1, role="assistant", content=[{"type": "toolCall", "id": f"c{n}", "name": "look", "arguments": {"at": n}}]
        )
        yield line(2 * n + 2, role="toolResult", toolCallId=f"c{n}", content=[said(_text(n))], isError=False)


def _copilot(turns: int) -> Iterator[dict[str, Any]]:
    yield agents.event(0, "session.start", sessionId="cp", startTime=T.format(0), selectedModel="m")
    yield agents.event(1, "user.message", content="look")
    for n in range(turns):
        about = {"timestamp": T.format(0)}
        yield agents.event(2 * n + 2, "assistant.message", **agents.asks(f"c{n}", "look", at=n)) | about
        done = agents.event(2 * n + 3, "tool.execution_complete", toolCallId=f"c{n}", success=True, result={"content": _text(n)})
        yield done | about


def _copilot_chat(turns: int) -> dict[str, Any]:
    rounds = [
        {"id": f"r{n}", "response": "", "toolCalls": [{"id": f"c{n}", "name": "look", "arguments": "{}"}]} for n in range(turns)
    ]
    gives = {f"c{n}": {"content": [{"value": _text(n)}]} for n in range(turns)}
    asked = {**agents.CHAT["requests"][0], "result": {"metadata": {"toolCallRounds": rounds, "toolCallResults": gives}}}
    return {**agents.CHAT, "requests": [asked]}


def _droid(turns: int) -> Iterator[dict[str, Any]]:
    yield agents.DROID[0]
    for n, (role, content) in enumerate(_blocks(turns)):
        yield {"type": "message", "id": f"{n}", "timestamp": T.format(0), "message": {"role": role, "content": content}}


def _kimi(turns: int) -> Iterator[dict[str, Any]]:
    yield agents.KIMI[0]
    for n, message in enumerate(_chat(turns)):
        yield message
        if n % 2:
            yield {"role": "_usage", "token_count": n}


def _kimi_wire(turns: int) -> Iterator[dict[str, Any]]:
    yield from agents.kimi_code_main()[:5]
    for n in range(turns):
        inner = (
            agents.kimi_tool(f"u{n}", f"c{n}", 1, "look", number=n),
            agents.kimi_loop("tool.result", 1, toolCallId=f"c{n}", result={"output": _text(n)}),
        )
        yield from agents.kimi_step(f"u{n}", 1, *inner)


def _cursor(turns: int) -> Iterator[dict[str, Any]]:
    yield agents.CURSOR[0]
    for n in range(turns):
        asked = {"type": "tool_use", "name": "look", "input": {"at": n}}
        yield {"role": "assistant", "message": {"content": [said(_text(n)), asked]}}


def _cursor_rows(path: Path, turns: int) -> None:
    agents.cursor(path)
    with closing(sqlite3.connect(path)) as database:
        row = json.loads(database.execute("select value from cursorDiskKV where key = 'composerData:c9'").fetchone()[0])
        for n in range(turns):
            tool = {"toolCallId": f"c{n}", "name": "look", "rawArgs": "{}", "status": "completed", "result": _text(n)}
            for id, said_ in ((f"m{n}", {"text": "I look"}), (f"n{n}", {"text": "", "toolFormerData": tool})):
                bubble = {"bubbleId": id, "type": 2, "createdAt": T.format(5), **said_}
                database.execute("insert into cursorDiskKV values (?, ?)", (f"bubbleId:c9:{id}", json.dumps(bubble)))
                row["fullConversationHeadersOnly"].append({"bubbleId": id, "type": 2})
        database.execute("update cursorDiskKV set value = ? where key = 'composerData:c9'", (json.dumps(row),))
        database.commit()


def _cursor_store(path: Path, turns: int) -> None:
    messages = [*agents.STORE[:3]]
    for n in range(turns):
        messages.append({"id": f"a{n}", "role": "assistant", "content": [{"type": "tool-call", "toolCallId": f"c{n}", "toolName": "look", "args": {"at": n}}]})  # fmt: skip
        messages.append({"role": "tool", "id": f"c{n}", "content": [{"type": "tool-result", "toolCallId": f"c{n}", "toolName": "look", "result": _text(n)}]})  # fmt: skip
    agents.cursor_chat(path, messages)


def _opencode(path: Path, turns: int) -> None:
    agents.opencode(path, 1)
    with closing(sqlite3.connect(path)) as database:
        for n in range(turns):
            about = {"role": "assistant", "modelID": "m", "time": {"created": MS + 10 + n, "completed": MS + 11 + n}}
            state = {
                "status": "completed",
                "input": {"at": n},
                "output": _text(n),
                "time": {"start": MS + 10 + n, "end": MS + 11 + n},
            }
            database.execute("insert into message values (?, 's1', ?, ?)", (f"n{n:08}", MS + 10 + n, json.dumps(about)))
            part = {"type": "tool", "tool": "look", "callID": f"c{n}", "state": state}
            database.execute("insert into part values (?, ?, 's1', ?)", (f"n{n:08}-0", f"n{n:08}", json.dumps(part)))
        database.commit()


def _goose(path: Path, turns: int) -> None:
    talk = [agents.goose_message("m0", "user", 0, said("look"))]
    for n in range(turns):
        talk.append(agents.goose_message(f"a{n}", "assistant", 10 * n + 5, *agents.goose_asks(f"c{n}", f"ls {n}")))
        talk.append(agents.goose_message(f"b{n}", "user", 10 * n + 6, agents.goose_gives(f"c{n}", said(_text(n)))))
    agents.goose(path, talk)


def _aider(turns: int) -> str:
    turn = "#### look {}\n\n{}\n\n> Tokens: 1.5k sent, 20 received. Cost: $0.25 message, $0.25 session.\n\n"
    return "\n# aider chat started at 2026-03-01 10:00:00\n\n" + "".join(turn.format(n, _text(n)) for n in range(turns))


def _inspect(turns: int, *, pooled: bool) -> dict[str, Any]:
    messages = [{**m, "id": f"m{n}"} for n, m in enumerate(_chat(turns))]
    for m in messages:
        m["tool_calls"] = [{"id": c["id"], "function": "look", "arguments": {"at": 1}} for c in m.get("tool_calls", ())] or None
        if m["role"] == "assistant":
            m["content"] = m["content"] or ""
    events = [
        {
            "event": "model",
            "model": "m",
            "output": {"choices": [{"message": m}]},
            "timestamp": T.format(0),
            "input_refs": [[0, n]],
        }
        for n, m in enumerate(messages)
        if m["role"] == "assistant"
    ]
    sample = {"id": 1, "epoch": 1, "uuid": "u", "input": "look", "messages": messages, "events": events if pooled else []}
    return {**EVAL, "samples": [{**sample, **({"events_data": {"messages": messages}} if pooled else {})}]}


def _atif(turns: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"step_id": 1, "source": "user", "message": "look"}]
    for n in range(turns):
        call = {"tool_call_id": f"c{n}", "function_name": "look", "arguments": {"at": n}}
        seen = {"results": [{"source_call_id": f"c{n}", "content": _text(n)}]}
        steps.append({"step_id": n + 2, "source": "agent", "message": "", "tool_calls": [call], "observation": seen})
    return {**ATIF, "steps": steps}


def _smolagents(turns: int) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [{"task": "look", "task_images": None}]
    sent: list[dict[str, Any]] = [{"role": "system", "content": [said("be brief")]}]
    for n in range(turns):
        about = {"step_number": n + 1, "model_input_messages": sent[-3:], "model_output": "I look", "error": None}
        answer = {"role": "assistant", "content": "I look", "tool_calls": [_asked(n)]}
        sent += [{"role": "assistant", "content": [said("I look")]}, {"role": "tool-response", "content": [said(_text(n))]}]
        steps.append({**about, "model_output_message": answer, "tool_calls": [_asked(n)], "observations": _text(n)})
    return steps


def _traces(turns: int) -> dict[str, Any]:
    nodes: list[dict[str, Any]] = []
    for n, message in enumerate(_chat(turns)):
        sampled = message["role"] == "assistant"
        ids = [40 * n + k for k in range(20)]
        about = {"mask": [sampled] * 20, "logprobs": [-0.5] * 20 if sampled else []}
        nodes.append({"parent": n - 1 if n else None, "message": message, "sampled": sampled, "token_ids": ids, **about})
    return {**TRACE, "nodes": nodes, "calls": []}


def _letta(turns: int) -> dict[str, Any]:
    told: list[dict[str, Any]] = [{"id": "u", "message_type": "user_message", "content": "look"}]
    for n in range(turns):
        call = {"name": "look", "arguments": "{}", "tool_call_id": f"c{n}"}
        told.append({"id": f"a{n}", "message_type": "tool_call_message", "tool_call": call, "step_id": f"s{n}"})
        told.append({"id": f"b{n}", "message_type": "tool_return_message", "tool_return": _text(n), "tool_call_id": f"c{n}"})
    return {"result": {"sample": {"id": 1, "input": "look"}, "trajectory": [told], "grade": {"score": 1.0}}}


def _agentbench(turns: int) -> dict[str, Any]:
    history = [{"role": "agent" if n % 2 else "user", "content": _text(n)} for n in range(2 * turns)]
    return {**BENCH[0], "output": {**BENCH[0]["output"], "history": history}}


def _intercode(turns: int) -> dict[str, Any]:
    every = range(turns)
    talk = {"actions": [f"ls {n}" for n in every], "observations": list(map(_text, every)), "rewards": [0.0 for n in every], "valid_action": [True for n in every]}  # fmt: skip
    return {
        "0": {"environment": "e", "dataset": "d", "task_id": 0, "query": "q", "turn_history": talk, "summary": {"max_reward": 1}}
    }


def _eliza(turns: int) -> dict[str, Any]:
    steps = [
        {
            "stepNumber": n,
            "stepId": f"s{n}",
            "llmCalls": [{"callId": f"l{n}", "model": "m", "userPrompt": _text(n), "response": "x"}],
        }
        for n in range(turns)
    ]
    return {"trajectoryId": "e", "agentId": "a", "startTime": MS, "steps": steps}


def _aworld(turns: int) -> Iterator[dict[str, Any]]:
    for n in range(turns):
        yield {
            "id": f"t-{n}",
            "meta": {"task_id": "t", "step": n, "agent_id": "a", "session_id": "s"},
            "state": {"input": {"content": "look"}, "messages": [{"role": "user", "content": "look"}]},
            "action": {"content": _text(n), "tool_calls": [_asked(n)]},
            "reward": {"score": None},
        }


def _atropos(turns: int) -> dict[str, Any]:
    tokens = list(range(20 * turns))
    masks = [t if t // 10 % 2 else -100 for t in tokens]
    return {"tokens": [tokens], "masks": [masks], "scores": [1.0], "messages": [_chat(turns)]}


def _art(turns: int) -> dict[str, Any]:
    messages = [{"finish_reason": "stop", "index": 0, "message": m} if m["role"] == "assistant" else m for m in _chat(turns)]
    one = {
        "messages_and_choices": messages,
        "reward": 1.0,
        "metrics": {},
        "metadata": {},
        "additional_histories": [],
        "tools": None,
    }
    return {"trajectories": [one]}


def _span(n: int) -> dict[str, Any]:
    about = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": n}
    about["gen_ai.output.messages"] = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": _text(n)}]}])
    attributes = [{"key": k, "value": {"stringValue": v} if isinstance(v, str) else {"intValue": v}} for k, v in about.items()]
    at = MS * 10**6 + n * 10**9
    one = {
        "traceId": "ab" * 16,
        "spanId": f"{n + 1:016x}",
        "name": "chat m",
        "startTimeUnixNano": at,
        "endTimeUnixNano": at + 10**8,
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [{**one, "attributes": attributes}]}]}]}


def _langfuse(turns: int) -> dict[str, Any]:
    one = [
        {"id": f"o{n}", "traceId": "t", "type": "GENERATION", "name": "ask", "startTime": T.format(0), "endTime": T.format(1),
         "model": "m", "input": [{"role": "user", "content": "look"}], "output": {"role": "assistant", "content": _text(n)}}
        for n in range(turns)
    ]  # fmt: skip
    return {"id": "t", "projectId": "p", "timestamp": T.format(0), "observations": one, "scores": []}


def _langsmith(turns: int) -> Iterator[dict[str, Any]]:
    about = {"trace_id": "t", "run_type": "llm", "start_time": T.format(0), "end_time": T.format(1)}
    for n in range(turns):
        said_ = {"generations": [[{"text": _text(n), "message": {"role": "assistant", "content": _text(n)}}]]}
        yield {"id": f"r{n}", "dotted_order": f"20260301T{n:012}Z", **about, "inputs": {"messages": [{"role": "user", "content": "look"}]}, "outputs": said_}  # fmt: skip


def _lightning(turns: int) -> dict[str, Any]:
    about = {"rollout_id": "r", "status": "succeeded", "input": "look", "created_at": 1.0, "updated_at": 2.0, "metadata": {}}
    events = [
        {"event_type": "model_request", "timestamp": 1.0 + n, "data": {"request": {"messages": [{"role": "user", "content": _text(n)}], "model": "m"}, "response": {"object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}}]}}}
        for n in range(turns)
    ]  # fmt: skip
    return {"rollout": about, "events": events, "resources": None}


def _hub(turns: int) -> Iterator[dict[str, Any]]:
    yield {"type": "session", "harness": "mine", "id": "h"}
    for message in _chat(turns):
        asked = [{"id": c["id"], "function": c["function"]} for c in message.get("tool_calls", ())]
        about = {"toolCalls": asked, "toolCallId": message.get("tool_call_id")}
        said_ = {"role": message["role"], "content": message["content"] or ""}
        yield {"type": "message", "message": {**said_, **{k: v for k, v in about.items() if v}}}


def _lines(file: str, turns: Turns) -> Callable[[Path, int], Path]:
    return lambda folder, n: write(folder / file, jsonl(list(turns(n))))


def _whole(file: str, value: Callable[[int], Any]) -> Callable[[Path, int], Path]:
    return lambda folder, n: write(folder / file, json.dumps(value(n)).encode())


def _table(file: str, fill: Callable[[Path, int], None]) -> Callable[[Path, int], Path]:
    def made(folder: Path, n: int) -> Path:
        fill(folder / file, n)
        return folder / file

    return made


def _folder(folder: Path, n: int) -> Path:
    events = v1(n, finish=True)
    for k, event in enumerate(events):
        write(folder / "c1" / "events" / f"event-{k:05}-{event['id']}.json", json.dumps(event).encode())
    write(folder / "c1" / "base_state.json", json.dumps({"id": "c1", "agent": {"llm": {"model": "m"}}}).encode())
    return folder / "c1"


def _kimi_code(folder: Path, n: int) -> Path:
    agents.kimi_code(folder, 6)
    write(folder / "session_5e55" / "agents" / "main" / "wire.jsonl", jsonl(list(_kimi_wire(n))))
    return folder / "session_5e55"


def _eval(folder: Path, n: int) -> Path:
    log = _inspect(n, pooled=True)
    with zipfile.ZipFile(folder / "a.eval", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("header.json", json.dumps(EVAL))
        file.writestr("samples/1_epoch_1.json", json.dumps({**SAMPLE, **log["samples"][0]}))
    return folder / "a.eval"


def _harbor(folder: Path, n: int) -> Path:
    write(folder / "t1" / "agent" / "trajectory.json", json.dumps(_atif(n)).encode())
    verdict = {"id": "x", "task_name": "t", "trial_name": "t.1", "verifier_result": {"rewards": {"reward": 1.0}}}
    write(folder / "t1" / "result.json", json.dumps({**verdict, "started_at": T.format(0), "finished_at": T.format(9)}).encode())
    return folder / "t1"


def _ours(folder: Path, n: int) -> Path:
    with odograph.open("memory:") as store:
        store.import_sessions(write(folder / "chat.jsonl", jsonl([{"messages": _chat(n)}])))
        store.export(folder / "ours", to="jsonl")
    return folder / "ours"


def _preference(turns: int) -> dict[str, Any]:
    asked = _chat(turns)
    return {
        "prompt": asked,
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    }


def _talk(turns: int) -> dict[str, Any]:
    return {"conversations": [{"from": "gpt" if n % 2 else "human", "value": _text(n)} for n in range(2 * turns)]}


def _batch(turns: int) -> Iterator[dict[str, Any]]:
    for n in range(turns):
        body = {"model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": _text(n)}}]}
        yield {"custom_id": f"r{n}", "response": {"status_code": 200, "body": body}}


def _cline(turns: int) -> list[dict[str, Any]]:
    return [{"role": role, "ts": MS + n, "content": content} for n, (role, content) in enumerate(_blocks(turns))]


def _cline_cli(turns: int) -> dict[str, Any]:
    told = [{"id": f"m{n}", "role": r, "ts": MS + n, "content": content} for n, (r, content) in enumerate(_blocks(turns))]
    return {**agents.CLINE_CLI, "messages": told}


def _amp(turns: int) -> dict[str, Any]:
    told = [{"role": role, "messageId": n, "content": content} for n, (role, content) in enumerate(_blocks(turns))]
    return {**agents.AMP, "messages": told}


def _continue(turns: int) -> dict[str, Any]:
    told: list[dict[str, Any]] = [{"message": {"role": "user", "content": "look"}, "contextItems": []}]
    for n in range(turns):
        state = {"toolCallId": f"c{n}", "status": "done", "output": [{"content": _text(n), "name": "r", "description": "d"}]}
        message = {"role": "assistant", "content": "", "toolCalls": [_asked(n)]}
        told.append({"message": message, "contextItems": [], "toolCallStates": [state]})
    return {**agents.CONTINUE, "history": told}


def _trial(turns: int) -> dict[str, Any]:
    one = {"task_id": "t", "instruction": "Knot", "is_resolved": True, "trial_started_at": T.format(0)}
    return {"id": "r", "results": [{**one, "id": f"t{n}", "trial_name": f"t.{n}"} for n in range(turns)]}


#: Of every importer a session of so many turns; of formats that hold one answer a row, so many rows.
LONG: dict[str, tuple[str, Callable[[Path, int], Path]]] = {
    "claude-code": ("claude-code", _lines("a.jsonl", _claude)),
    "claude-stream": ("claude-stream", _lines("a.jsonl", _stream)),
    "codex": ("codex", _lines("a.jsonl", _codex)),
    "codex-exec": ("codex-exec", _lines("a.jsonl", _exec)),
    "gemini-cli": ("gemini-cli", _lines("a.jsonl", _gemini)),
    "qwen-code": ("qwen-code", _lines("a.jsonl", _qwen)),
    "pi-session": ("pi-session", _lines("a.jsonl", _pi)),
    "cursor": ("cursor", _lines("a.jsonl", _cursor)),
    "cursor database": ("cursor", _table("state.vscdb", _cursor_rows)),
    "cursor chat": ("cursor", _table("store.db", _cursor_store)),
    "opencode": ("opencode", _table("opencode.db", _opencode)),
    "copilot": ("copilot", _lines("events.jsonl", _copilot)),
    "copilot-chat": ("copilot-chat", _whole("chat.json", _copilot_chat)),
    "cline": ("cline", _whole("1772359200000/api_conversation_history.json", _cline)),
    "cline-cli": ("cline-cli", _whole("a/1772359200000_ab.messages.json", _cline_cli)),
    "goose": ("goose", _table("sessions.db", _goose)),
    "kimi": ("kimi", _lines("0000-aaaa-kimi.jsonl", _kimi)),
    "kimi-code": ("kimi-code", _kimi_code),
    "amp": ("amp", _whole("T-1.json", _amp)),
    "droid": ("droid", _lines("dr.jsonl", _droid)),
    "continue": ("continue", _whole("co.json", _continue)),
    "aider": ("aider", lambda folder, n: write(folder / ".aider.chat.history.md", _aider(n).encode())),
    "inspect": ("inspect", _eval),
    "inspect json": ("inspect", _whole("a.json", lambda n: _inspect(n, pooled=False))),
    "harbor": ("harbor", _harbor),
    "atif": ("atif", _whole("trajectory.json", _atif)),
    "openhands": ("openhands", _whole("a.json", v0)),
    "openhands V1": ("openhands", _folder),
    "swe-agent": ("swe-agent", _whole("a.traj", old)),
    "mini-swe-agent": ("mini-swe-agent", _whole("a.traj.json", calls_file)),
    "tau-bench": ("tau-bench", _whole("a.json", lambda n: [episode(0, 0, turns=n)])),
    "tau2-bench": ("tau2-bench", _whole("a.json", results)),
    "verifiers": ("verifiers", _lines("a.jsonl", lambda n: iter([{"prompt": _chat(n)[:1], "completion": _chat(n)[1:], "reward": 1}]))),
    "verifiers-traces": ("verifiers-traces", _lines("traces.jsonl", lambda n: iter([_traces(n)]))),
    "smolagents": ("smolagents", _whole("steps.json", _smolagents)),
    "agentbench": ("agentbench", _lines("runs.jsonl", lambda n: iter([_agentbench(n)]))),
    "letta-evals": ("letta-evals", _lines("results.jsonl", lambda n: iter([_letta(n)]))),
    "intercode": ("intercode", _whole("a.json", _intercode)),
    "terminal-bench": ("terminal-bench", _whole("results.json", _trial)),
    "eliza": ("eliza", _lines("a.jsonl", lambda n: iter([_eliza(n)]))),
    "aworld": ("aworld", _lines("a.jsonl", _aworld)),
    "atropos": ("atropos", _lines("a.jsonl", lambda n: iter([_atropos(n)]))),
    "art": ("art", _lines("a.jsonl", lambda n: iter([_art(n)]))),
    "agent-lightning": ("agent-lightning", _lines("a.jsonl", lambda n: iter([_lightning(n)]))),
    "preferences": ("preferences", _lines("a.jsonl", lambda n: iter([_preference(n)]))),
    "completions": ("completions", _lines("a.jsonl", lambda n: iter([{"prompt": _chat(n), "completions": ["a"], "rewards": [1]}]))),
    "sharegpt": ("sharegpt", _lines("a.jsonl", lambda n: iter([_talk(n)]))),
    "batches": ("batches", _lines("a.jsonl", _batch)),
    "openai-chat": ("openai-chat", _lines("a.jsonl", lambda n: iter([{"messages": _chat(n)}]))),
    "anthropic-messages": ("anthropic-messages", _lines("a.jsonl", lambda n: iter([{"messages": [{"role": role, "content": told} for role, told in _blocks(n)]}]))),
    "spans": ("spans", _lines("spans.jsonl", lambda n: iter([_span(k) for k in range(n)]))),
    "langfuse": ("spans", _whole("trace.json", _langfuse)),
    "langsmith": ("spans", _lines("runs.jsonl", _langsmith)),
    "hf-traces": ("hf-traces", _lines("a.jsonl", _hub)),
    "odograph": ("odograph", _ours),
}  # fmt: skip


def test_every_importer_is_here() -> None:
    assert {name for name, _ in LONG.values()} == set(importers.NAMES)


@pytest.mark.parametrize("name", LONG)
def test_four_times_the_turns_cost_four_times_as_much(tmp_path: Path, name: str) -> None:
    """An import takes time and memory for what is new in each call, and so does an import again. A list of the history for each
    call would take five times the memory here, and a copy of its messages more."""

    def spent(turns: int, enough: float = 0.0) -> tuple[float, int, int]:
        format, make = LONG[name]
        (tmp_path / str(turns)).mkdir()
        path = make(tmp_path / str(turns), turns)

        def first() -> odograph.ImportReport:
            with odograph.open("memory:") as store:
                return store.import_sessions(path, format=format)

        report, cost = costs(first, rounds=3, enough=enough)
        assert report.imported and not report.failed
        with odograph.open("memory:") as store:
            found: list[int] = []
            for imported in (report.imported, 0):
                tracemalloc.start()
                assert store.import_sessions(path, format=format).imported == imported
                found.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
        return (cost, found[0], found[1])

    spent(3)  # modules and caches are loaded once
    few = spent(120)
    many = spent(480, enough=9 * few[0])
    time, *memory = (b / a for a, b in zip(few, many, strict=True))
    assert time < 9
    assert max(memory) < 4.5
