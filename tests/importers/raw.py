"""Independent readers of raw session files: what a person, a model or a tool said in them, in order and with times.

They know nothing of the importers. Each walks the JSON of a file and gives `Said`. The model's calls of tools are
`name arguments`, with the arguments as JSON of sorted keys.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

#: Who said it: a person (or what stands in a person's place), a model, a model's thoughts, a call of a tool, a tool's result,
#: a program in the model's name.
PERSON, MODEL, THOUGHT, TOOL, RESULT, PROGRAM = "person", "model", "thought", "tool", "result", "program"


class Said(NamedTuple):
    kind: str
    text: str
    time: int | None = None  #: microseconds; None where the file does not say
    of: str | None = None  #: of a result: the id of the call, where the format has ids


def micros(value: Any) -> int | None:
    """A time in microseconds: of ISO 8601 (UTC where no zone is given), or of seconds or milliseconds since 1970."""
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            return None
        return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1e6)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return round(value * (1e3 if value > 1e11 else 1e6))
    return None


def values(path: Path) -> list[Any]:
    """All JSON values of a file, a folder of files, or a zip; several in one line too."""
    if path.is_dir():
        return [v for p in sorted(path.rglob("*.json*")) for v in values(p)]
    data = path.read_bytes()
    if data.startswith(b"SQLite"):
        return _rows(path)
    if path.suffix == ".md":
        return data.decode().split("\n")
    if data.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            infos = [i for i in archive.infolist() if i.filename.startswith("samples/")]
            if all(i.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for i in infos):
                return [json.loads(archive.read(i)) for i in infos]
            return [json.loads(_zstd(data, i)) for i in infos]
    text = data.decode("utf-8-sig", "replace")
    try:
        return [json.loads(text)]
    except ValueError:
        pass
    found: list[Any] = []
    for line in text.split("\n"):
        at = 0
        line = line.strip()
        while at < len(line):
            try:
                value, at = json.JSONDecoder().raw_decode(line, at)
            except ValueError:
                break
            found.append(value)
            while at < len(line) and line[at] in " ,\x00":
                at += 1
    return found


def _rows(path: Path) -> list[Any]:
    """All rows of a database, as dicts with their table under `table`; JSON in them is parsed, other bytes are hexadecimal."""

    def plain(value: Any) -> Any:
        try:
            return json.loads(value) if isinstance(value, (str, bytes)) else value
        except ValueError:
            return value.hex() if isinstance(value, bytes) else value

    with contextlib.closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        tables = [row["name"] for row in database.execute("select name from sqlite_master where type = 'table'")]
        return [
            {"table": table, **{key: plain(value) for key, value in dict(row).items()}}
            for table in tables
            for row in database.execute(f"select * from {table}")
        ]


def _zstd(data: bytes, info: zipfile.ZipInfo) -> bytes:
    import zstandard

    name, extra = struct.unpack("<HH", data[info.header_offset + 26 : info.header_offset + 30])
    start = info.header_offset + 30 + name + extra
    packed = data[start : start + info.compress_size]
    return zstandard.ZstdDecompressor().decompressobj().decompress(packed)


def call(name: Any, given: Any) -> str:
    """A call of a tool as text; arguments that are the JSON of an object count as that object."""
    if isinstance(given, str):
        try:
            parsed = json.loads(given)
            given = parsed if isinstance(parsed, dict) else given
        except ValueError:
            pass
    return f"{name} {json.dumps(given, sort_keys=True)}"


def objects(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def texts(content: Any) -> list[str]:
    """The texts of a content: a string, or parts with `text`."""
    if isinstance(content, str):
        return [content] if content.strip() else []
    return [p["text"] for p in objects(content) if isinstance(p.get("text"), str) and p["text"].strip()]


def chat(message: dict[str, Any], time: Any = None) -> Iterator[Said]:
    """A message of a chat, in OpenAI's shape or with Anthropic's blocks."""
    when, role = micros(time), message.get("role")
    content = message.get("content")
    if role in ("assistant", "agent", "model", "gpt"):
        for block in objects(content):
            if isinstance(block.get("thinking"), str) and block["thinking"]:
                yield Said(THOUGHT, block["thinking"], when)
            elif block.get("type") == "tool_use":
                yield Said(TOOL, call(block.get("name"), block.get("input")), when)
            elif block.get("type") == "toolCall":
                yield Said(TOOL, call(block.get("name"), block.get("arguments")), when)
        yield from (Said(MODEL, t, when) for t in texts(content))
        for asked in message.get("tool_calls") or []:
            asked = json.loads(asked) if isinstance(asked, str) else asked
            function = asked.get("function") if isinstance(asked.get("function"), dict) else asked
            yield Said(TOOL, call(function.get("name"), function.get("arguments")), when)
        return
    results = [b for b in objects(content) if b.get("type") == "tool_result"]
    for block in results:
        yield from (Said(RESULT, t, when, block.get("tool_use_id")) for t in texts(block.get("content")))
    if role in ("tool", "function", "toolResult"):
        id = message.get("tool_call_id") or message.get("toolCallId")
        yield from (Said(RESULT, t, when, id) for t in texts(content))
    elif role != "system":
        yield from (Said(PERSON, t, when) for t in texts(content))


def claude_code(found: list[Any]) -> Iterator[Said]:
    lines: set[str] = set()
    asked: set[str] = set()
    for line in objects(found):
        inner = line.get("data") if line.get("type") == "progress" else None
        if isinstance(inner, dict) and isinstance(inner.get("message"), dict):
            line = {"timestamp": line.get("timestamp"), **inner["message"]}
        if line.get("uuid") in lines and line.get("type") in ("user", "assistant"):
            continue
        lines.add(str(line.get("uuid")))
        message, attached = line.get("message"), line.get("attachment")
        if isinstance(attached, dict) and attached.get("type") == "queued_command":
            yield from (Said(PERSON, t, micros(line.get("timestamp"))) for t in texts(attached.get("prompt")))
        if (
            not isinstance(message, dict)
            or line.get("type") not in ("user", "assistant")
            or message.get("model") == "<synthetic>"
        ):
            continue
        again = [b for b in objects(message.get("content")) if b.get("type") == "tool_use" and b.get("id") in asked]
        asked |= {b["id"] for b in objects(message.get("content")) if b.get("type") == "tool_use"}
        if not again:
            yield from chat(message, line.get("timestamp"))


def codex(found: list[Any]) -> Iterator[Said]:
    for line in objects(found):
        item = line.get("payload") if isinstance(line.get("payload"), dict) else line
        if line.get("type") != "response_item" and "payload" in line:
            continue
        when, kind = micros(line.get("timestamp")), item.get("type")
        if kind == "message":
            yield from (Said(MODEL if item.get("role") == "assistant" else PERSON, t, when) for t in texts(item.get("content")))
        elif kind == "reasoning":
            yield from (Said(THOUGHT, t, when) for t in texts(item.get("summary")))
        elif kind in ("function_call", "custom_tool_call", "local_shell_call", "web_search_call", "tool_search_call"):
            given = next((item[k] for k in ("arguments", "input", "action") if item.get(k) is not None), None)
            yield Said(TOOL, call(item.get("name") or kind.removesuffix("_call"), given), when)
        elif kind in ("function_call_output", "custom_tool_call_output"):
            yield from (Said(RESULT, t, when, item.get("call_id")) for t in texts(item.get("output")))


def gemini(found: list[Any]) -> Iterator[Said]:
    last: dict[Any, dict[str, Any]] = {}
    for value in objects(found):
        listed = value.get("messages") or (value.get("$set") or {}).get("messages") or ([value] if "type" in value else [])
        for message in listed:
            last[message.get("id") or len(last)] = message
    for message in last.values():
        when = micros(message.get("timestamp"))
        if message.get("type") == "user":
            yield from (Said(PERSON, t, when) for t in texts(message.get("content")))
        if message.get("type") == "gemini":
            yield from (
                Said(THOUGHT, t, when) for x in message.get("thoughts") or [] if (t := x.get("description") or x.get("summary"))
            )
            yield from (Said(MODEL, t, when) for t in texts(message.get("content")))
            for asked in message.get("toolCalls") or []:
                yield Said(TOOL, call(asked.get("name"), asked.get("args")), micros(asked.get("timestamp")) or when)
                given = asked.get("result")
                outputs = [p["functionResponse"]["response"].get("output") for p in objects(given)] or [given]
                yield from (Said(RESULT, t, None, asked.get("id")) for output in outputs for t in texts(output))


def pi(found: list[Any]) -> Iterator[Said]:
    for line in objects(found):
        if line.get("type") == "message":
            yield from chat(line["message"], line.get("timestamp"))


def inspect(found: list[Any]) -> Iterator[Said]:
    samples = [s for v in found for s in v.get("samples", [v])]
    for sample in samples:
        attached = {**sample.get("attachments", {}), **(sample.get("transcript") or {}).get("content", {})}

        # where the wire was logged, it says what the model said: Inspect writes a submitted answer in the place of the text
        wire: dict[Any, Any] = {}
        for event in sample.get("events") or []:
            for choice in (
                ((event.get("call") or {}).get("response") or {}).get("choices") or [] if event["event"] == "model" else []
            ):
                for asked in choice["message"].get("tool_calls") or []:
                    wire[asked["id"]] = choice["message"].get("content")

        def whole(value: Any, attached: dict[str, Any] = attached) -> Any:
            if isinstance(value, str):
                return attached.get(value.removeprefix("attachment://").removeprefix("tc://"), value)
            if isinstance(value, list):
                return [whole(v) for v in value]
            return {k: whole(v) for k, v in value.items()} if isinstance(value, dict) else value

        for message in sample["messages"]:
            message = whole(message)
            asked = [{"name": c["function"], "arguments": c["arguments"]} for c in message.get("tool_calls") or []]
            answered = next((wire[c["id"]] for c in message.get("tool_calls") or [] if c["id"] in wire), None)
            if any(a["name"] == "submit" for a in asked) and wire:
                yield from (Said(PROGRAM, t) for t in texts(message["content"]))
                message = {**message, "content": whole(answered)}
            yield from chat({**message, "tool_calls": asked})
        sent = {m.get("tool_call_id") for m in sample["messages"]}
        for event in sample.get("events") or []:  # where a limit came before the model was sent the result
            if event["event"] == "tool" and event["id"] not in sent and not event.get("pending"):
                if any(c["id"] == event["id"] for m in sample["messages"] for c in m.get("tool_calls") or []):
                    yield from (Said(RESULT, t) for t in texts(whole(event["result"])))


def swe_agent(found: list[Any]) -> Iterator[Said]:
    for run in found:
        history, info = run.get("history") or [], run.get("info") or {}
        asked = {str(m.get("content")): m["tool_calls"] for m in history if m.get("tool_calls")}
        human = (info.get("model_stats") or {}).get("api_calls") == 0
        for item in run.get("trajectory") or []:
            ended = item["response"].startswith(("Exit due to", "Exiting due to"))
            yield from (Said(PROGRAM if ended or human else MODEL, t) for t in texts(item["response"]))
            command = item["action"].strip()
            if command:
                tools = asked.get(item["response"])
                yield (
                    next(chat({"role": "assistant", "tool_calls": tools}))
                    if tools
                    else Said(TOOL, call(command.split()[0], item["action"]))
                )
                yield from (Said(RESULT, t) for t in texts(item["observation"]))
        for item in history:
            if "trajectory" not in run:
                yield from chat(item)
            elif item["role"] == "user" and not item.get("is_demo"):
                yield from (Said(PROGRAM, t) for t in texts(item["content"]))


def mini_swe_agent(found: list[Any]) -> Iterator[Said]:
    for run in found:
        for message in run["messages"] if isinstance(run, dict) else run:
            extra = message.get("extra") or {}
            if message["role"] == "exit":
                yield from (Said(PROGRAM, t) for t in texts(message["content"]))
            elif "raw_output" in extra:
                yield from (Said(RESULT, t) for t in texts(extra["raw_output"]))
                yield from (Said(PROGRAM, t) for t in texts(message["content"]))
            else:
                yield from chat(message, extra.get("timestamp"))


def openhands(found: list[Any]) -> Iterator[Said]:
    """V0 and V1: events, lists of events, rows with a history."""
    replies: set[Any] = set()
    for row in objects(found):
        yield from (Said(PERSON, t) for t in texts(row.get("instruction")))
    for event in _events(found):
        when = micros(event.get("timestamp"))
        given = event.get("args") or {}
        body = (event.get("tool_call_metadata") or {}).get("model_response") or {}
        if event.get("kind") == "MessageEvent":
            kind = MODEL if event["source"] == "agent" else PERSON
            yield from (Said(kind, t, when) for t in texts(event["llm_message"]["content"]))
        elif event.get("kind") == "ActionEvent":
            asked = event["tool_call"]
            asked = asked.get("function", asked)
            yield Said(TOOL, call(asked["name"], asked["arguments"]), when)
            yield from (Said(MODEL, t, when) for t in texts(event.get("thought")))
        elif event.get("kind") == "ObservationEvent":
            seen = event["observation"]
            output = next((seen[k] for k in ("content", "output", "message") if k in seen), None)
            yield from (Said(RESULT, t) for t in texts(output))
        elif event.get("action") == "message":
            kind = PERSON if event.get("source") in ("user", None) else MODEL
            yield from (Said(kind, t, when) for t in texts(given.get("content", event.get("content"))))
        elif body and "action" in event:
            for choice in body["choices"] if body.get("id") not in replies else []:
                yield from (Said(MODEL, t, when) for t in texts(choice["message"].get("content")))
            replies.add(body.get("id"))
            asked = {c["id"]: c for b in body["choices"] for c in b["message"].get("tool_calls") or []}
            mine = asked[event["tool_call_metadata"]["tool_call_id"]]["function"]
            yield Said(TOOL, call(mine["name"], mine["arguments"]), when)
        elif isinstance(event.get("action"), str) and event.get("source", "agent") == "agent":
            if event["action"] not in ("system", "recall", "change_agent_state", "condensation", "null"):
                plain = {k: v for k, v in event.items() if k not in _EVENT}  # of 2024
                yield Said(TOOL, call(event["action"], given or plain), when)
        elif event.get("observation") not in (None, "null", "recall", "agent_state_changed"):
            answers = event.get("tool_call_metadata") or event.get("cause") is not None or "id" not in event
            yield from (Said(RESULT if answers else PROGRAM, t) for t in texts(event.get("content")))


_EVENT = ("id", "timestamp", "source", "message", "action", "observation", "cause", "args")


def _events(found: Any) -> Iterator[dict[str, Any]]:
    for value in found:
        if isinstance(value, list):
            yield from _events(value)
        elif isinstance(value, dict):
            yield from _events(value["history"]) if "history" in value else iter([value])


def tau_bench(found: list[Any]) -> Iterator[Said]:
    for episode in found[0]:
        for message in episode["traj"]:
            yield from chat(message)


def tau2_bench(found: list[Any]) -> Iterator[Said]:
    for episode in found[0].get("simulations", found):
        for message in episode.get("messages") or []:
            mine = message.get("requestor", "assistant") == "assistant"
            if message["role"] == "user" and message.get("tool_calls"):  # a person's own tools
                message = {**message, "tool_calls": None}
            if not mine and message["role"] == "tool":
                yield from (Said(PROGRAM, t) for t in texts(message["content"]))
                continue
            for said in chat(message, message.get("timestamp")):
                greeting = said.kind == MODEL and not message.get("usage") and not message.get("turn_idx")
                yield said._replace(kind=PROGRAM) if greeting else said
                if said.kind == PERSON and message.get("usage"):  # a model plays the person
                    yield said._replace(kind=MODEL)


def verifiers(found: list[Any]) -> Iterator[Said]:
    for row in found:
        for message in [*row["prompt"], *(row.get("completion") or [])]:
            yield from chat(message)


def atif(found: list[Any]) -> Iterator[Said]:
    for run in found:
        for step in run["steps"]:
            when = micros(step.get("timestamp"))
            copied = step.get("is_copied_context") or step.get("llm_call_count") == 0
            kind = PERSON if step["source"] == "user" else PROGRAM if copied or step["source"] != "agent" else MODEL
            yield from (Said(kind, t, when) for t in texts(step["message"]))
            if step.get("reasoning_content"):
                yield Said(THOUGHT, step["reasoning_content"], when)
            for asked in step.get("tool_calls") or []:
                yield Said(TOOL, call(asked["function_name"], asked["arguments"]), when)
            for seen in (step.get("observation") or {}).get("results") or []:
                kind = RESULT if seen.get("source_call_id") else PROGRAM
                yield from (Said(kind, t) for t in texts(seen.get("content")))
        yield from atif(run.get("subagent_trajectories") or [])


def agentbench(found: list[Any]) -> Iterator[Said]:
    for run in found:
        for message in run["output"]["history"]:
            yield from chat(message)


def intercode(found: list[Any]) -> Iterator[Said]:
    for run in found[0].values():
        yield Said(PERSON, run["query"])
        for action, seen in zip(run["turn_history"]["actions"], [*run["turn_history"]["observations"], None], strict=False):
            yield Said(TOOL, call(run["environment"], {"action": action}))
            yield from (Said(RESULT, t) for t in texts(seen))


def letta(found: list[Any]) -> Iterator[Said]:
    for row in found:
        for message in (m for turn in (row.get("result") or {}).get("trajectory") or [] for m in turn):
            when, kind = micros(message.get("date")), message["message_type"]
            if kind in ("user_message", "assistant_message"):
                yield from (Said(PERSON if kind == "user_message" else MODEL, t, when) for t in texts(message["content"]))
            elif kind == "tool_call_message":
                asked = message["tool_call"]
                yield Said(TOOL, call(asked["name"], asked["arguments"]), when)
            elif kind == "tool_return_message":
                yield from (Said(RESULT, t) for t in texts(message["tool_return"]))


def agent_lightning(found: list[Any]) -> Iterator[Said]:
    for row in found:
        for event in row["events"]:
            if event["event_type"] == "model_request":
                for message in event["data"]["request"]["messages"]:
                    yield from chat(message)
                answer = event["data"]["response"]
                if isinstance(answer, list):  # a stream
                    deltas = [c["delta"].get("content") or "" for chunk in answer for c in chunk["choices"]]
                    yield Said(MODEL, "".join(deltas))
                    continue
                for choice in answer["choices"]:
                    yield from chat(choice["message"])


def hub(found: list[Any]) -> Iterator[Said]:
    for message in (line["message"] for line in found if line["type"] == "message"):
        when = message.get("timestamp")
        yield from [Said(THOUGHT, message["reasoningContent"], micros(when))] if message.get("reasoningContent") else []
        yield from chat({**message, "tool_calls": message.get("toolCalls")}, when)


def smolagents(found: list[Any]) -> Iterator[Said]:
    for row in found:
        ran = row if isinstance(row, list) else row.get("steps")
        for step in ran or []:
            when, said = micros((step.get("timing") or {}).get("start_time")), step.get("model_output_message") or {}
            yield from [Said(PERSON, step["task"])] if "task" in step else []
            yield from chat(said, step["timing"]["start_time"]) if said else []
            asked = [c for c in step.get("tool_calls") or [] if not said.get("tool_calls")]
            yield from (Said(TOOL, call(c["function"]["name"], c["function"]["arguments"]), when) for c in asked)
            yield from (Said(RESULT, t) for t in texts(step.get("observations")))
        steps = [] if ran is not None else row["intermediate_steps"]
        for step in steps if isinstance(steps, list) else ast.literal_eval(steps):
            for text in texts(step["content"]):
                if step["role"] == "tool-call":
                    for asked in ast.literal_eval(text.partition("\n")[2]):
                        yield Said(TOOL, call(asked["function"]["name"], asked["function"]["arguments"]))
                elif step["role"] == "tool-response":
                    yield Said(RESULT, text.removeprefix("Observation:\n"))
                elif step["role"] != "system":
                    yield Said(MODEL if step["role"] == "assistant" else PERSON, text)


def qwen_code(found: list[Any]) -> Iterator[Said]:
    for line in found:
        when = micros(line.get("timestamp"))
        for part in (line.get("message") or {}).get("parts") or []:
            if "functionCall" in part:
                yield Said(TOOL, call(part["functionCall"]["name"], part["functionCall"]["args"]), when)
            elif "functionResponse" in part:
                given = part["functionResponse"]
                yield from (Said(RESULT, t, when, given["id"]) for t in texts(given["response"]["output"]))
            elif line["message"]["role"] == "model":
                yield Said(THOUGHT if part.get("thought") else MODEL, part["text"], when)
            else:
                yield Said(PERSON, part["text"], when)


def droid(found: list[Any]) -> Iterator[Said]:
    for line in found:
        if line["type"] == "message":
            yield from chat(line["message"], line["timestamp"])


def stream(found: list[Any]) -> Iterator[Said]:
    for line in found:
        yield from chat(line.get("message") or {"role": "system"})


def lines_of_chat(found: list[Any]) -> Iterator[Said]:
    """Files whose lines are messages: those of Kimi and Cursor."""
    for line in found:
        if not str(line.get("role", "_")).startswith("_"):
            yield from chat({**line, **(line.get("message") or {})})


def rows_of_chat(found: list[Any]) -> Iterator[Said]:
    for row in found:
        for message in row["messages"]:
            yield from chat(message)


def goose(found: list[Any]) -> Iterator[Said]:
    for message in found[0]["conversation"] if "conversation" in found[0] else found[1:]:
        when = message["created"]
        yield from chat(message, when)
        for part in message["content"]:
            if part["type"] == "toolRequest":
                asked = part["toolCall"]["value"]
                yield Said(TOOL, call(asked["name"], asked["arguments"]), micros(when))
            elif part["type"] == "toolResponse":
                yield from (Said(RESULT, t, None, part["id"]) for t in texts(part["toolResult"]["value"]))


def cline(found: list[Any]) -> Iterator[Said]:
    for message in found[0]:
        yield from chat(message, message.get("ts"))


def cline_cli(found: list[Any]) -> Iterator[Said]:
    for message in found[0]["messages"]:
        when = micros(message["ts"])
        for said in chat(message, message["ts"]):
            shown = (message.get("metadata") or {}).get("displayOnly")
            typed = said.text.replace('<user_input mode="act">', "").replace("</user_input>", "")
            yield said._replace(kind=PROGRAM) if shown else said._replace(text=typed)
        for block in objects(message["content"]):
            if objects(block.get("content")):
                yield Said(RESULT, json.dumps(block["content"], separators=(",", ":")), when, block["tool_use_id"])


def amp(found: list[Any]) -> Iterator[Said]:
    for message in found[0]["messages"]:
        for block in message["content"]:
            if block["type"] == "tool_result":
                yield from (Said(RESULT, t, None, block["toolUseID"]) for t in texts(block["run"]["result"]["output"]))
        yield from chat(message, (message.get("meta") or {}).get("sentAt"))


def copilot(found: list[Any]) -> Iterator[Said]:
    for line in found:
        data, when = line["data"], micros(line["timestamp"])
        if line["type"] == "user.message":
            yield Said(PERSON, data.get("transformedContent") or data["content"], when)
        elif line["type"] == "assistant.message":
            yield from (Said(MODEL, t, when) for t in texts(data["content"]))
            yield from (Said(THOUGHT, t, when) for t in texts(data.get("reasoningText")))
        elif line["type"] == "tool.execution_start":
            yield Said(TOOL, call(data["toolName"], data["arguments"]))
        elif line["type"] == "tool.execution_complete":
            yield from (Said(RESULT, t, None, data["toolCallId"]) for t in texts(data["result"]["content"]))


def sharegpt(found: list[Any]) -> Iterator[Said]:
    kinds = {"human": PERSON, "gpt": MODEL, "observation": RESULT}
    for row in found:
        for turn in row.get("conversations") or []:
            if turn["from"] == "function_call":
                asked = json.loads(turn["value"])
                yield Said(TOOL, call(asked["name"], asked["arguments"]))
            else:
                yield Said(kinds[turn["from"]], turn["value"])
        if "output" in row:
            yield Said(PERSON, "\n".join([row["instruction"], row["input"]]))
            yield Said(MODEL, row["output"])


def codex_exec(found: list[Any]) -> Iterator[Said]:
    for item in (line["item"] for line in found if line["type"] == "item.completed"):
        if item["type"] == "agent_message":
            yield Said(MODEL, item["text"])
        elif item["type"] == "command_execution":
            yield Said(TOOL, call(item["type"], {"command": item["command"]}))
            yield Said(RESULT, item["aggregated_output"])


def continue_dev(found: list[Any]) -> Iterator[Said]:
    for item in found[0]["history"]:
        message = item["message"]
        yield from chat({**message, "tool_calls": message.get("toolCalls")})
        for state in item.get("toolCallStates") or []:
            yield from (Said(RESULT, part["content"], None, state["toolCallId"]) for part in state["output"])


def copilot_chat(found: list[Any]) -> Iterator[Said]:
    for request in found[0]["requests"]:
        yield Said(PERSON, request["message"]["text"], micros(request["timestamp"]))
        about = request["result"]["metadata"]
        for turn in about["toolCallRounds"]:
            yield Said(MODEL, turn["response"])
            for asked in turn["toolCalls"]:
                yield Said(TOOL, call(asked["name"], asked["arguments"]))
        for id, result in about["toolCallResults"].items():
            yield from (Said(RESULT, part["value"], None, id) for part in result["content"])


def eliza(found: list[Any]) -> Iterator[Said]:
    for value in found:
        for row in value if isinstance(value, list) else [value]:
            row = row.get("trajectory", row)
            for step in row["steps"] if "steps" in row else json.loads(row["stepsJson"]):
                for asked in step.get("llmCalls") or []:
                    when = micros(asked.get("timestamp"))
                    yield from (Said(THOUGHT, t, when) for t in texts(asked.get("reasoning")))
                    yield from (Said(MODEL, t, when) for t in texts(asked.get("response")))
                did = step.get("action") or {}
                if did:
                    name = did.get("actionName") or did.get("actionType")
                    yield Said(TOOL, call(name, did.get("parameters")), micros(did.get("timestamp")))
                    yield from (Said(RESULT, t) for t in texts(did.get("result")))


def art(found: list[Any]) -> Iterator[Said]:
    for row in found:
        for one in row.get("trajectories", [row]):
            known: list[Any] = []
            for exchange in one.get("exchanges") or []:
                sent = exchange["request"]["messages"]
                yield from (s for m in sent if m not in known and m["role"] != "assistant" for s in chat(m))
                known += sent
                yield from chat(exchange["response"]["choices"][0]["message"])
            for history in [one, *(one.get("additional_histories") or [])]:
                for entry in history.get("messages_and_choices") or []:
                    if "message" not in entry and entry["role"] == "assistant":  # nobody sampled it
                        yield from (Said(PROGRAM, t) for t in texts(entry["content"]))
                    else:
                        yield from chat(entry.get("message", entry))


def atropos(found: list[Any]) -> Iterator[Said]:
    for row in found:
        for said, mask in zip(row["messages"], row["masks"], strict=True):
            if isinstance(said, str):  # a rendered chat: whose words are whose, the file does not say
                yield Said(PROGRAM, said)
                continue
            runs = sum(m != -100 and (n == 0 or mask[n - 1] == -100) for n, m in enumerate(mask))
            answers = [n for n, m in enumerate(said) if m["role"] == "assistant"]
            sampled = answers if len(answers) == runs else answers[-1:]
            asked = {c["id"] for n in sampled for c in said[n].get("tool_calls") or []}
            for n, message in enumerate(said):
                if (message["role"] == "assistant" and n not in sampled) or (message["role"] == "tool" and not asked):
                    yield from (Said(PROGRAM, t) for t in texts(message["content"]))
                else:
                    yield from chat(message)


def preferences(found: list[Any]) -> Iterator[Said]:
    for row in found:
        for name in ("chosen", "rejected", "completion"):
            said, asked = row.get(name), row.get("prompt")
            if said is not None:
                yield from (s for m in (asked if isinstance(asked, list) else []) for s in chat(m))
                yield from [Said(PERSON, asked)] if isinstance(asked, str) else []
            if isinstance(said, str):
                yield Said(MODEL, said)
            for n, message in enumerate(said if isinstance(said, list) else []):
                context = message["role"] == "assistant" and "prompt" not in row and n < len(said) - 1
                yield from (Said(PROGRAM, t) for t in texts(message["content"])) if context else chat(message)


def aworld(found: list[Any]) -> Iterator[Said]:
    items = [i for value in found for i in (value if isinstance(value, list) else [value])]
    answered: dict[str, list[str]] = {}
    for item in items:
        when = micros(item["meta"].get("execute_time"))
        given, did = item["state"].get("input") or {}, item["action"]
        yield from (Said(PERSON, t, when) for t in texts(given.get("content")))
        yield from chat({**did, "role": "assistant"}, when)
        for out in [*(given.get("action_result") or []), *((item.get("reward") or {}).get("tool_outputs") or [])]:
            answered[out["tool_call_id"]] = texts(out.get("content")) or answered.get(out["tool_call_id"], [])
    for id, said in answered.items():
        yield from (Said(RESULT, t, None, id) for t in said)


def terminal_bench(found: list[Any]) -> Iterator[Said]:
    yield from (Said(PERSON, t["instruction"], micros(t.get("trial_started_at"))) for t in found[0]["results"])


def parsed(value: Any) -> Any:
    """A value, or what stands in its JSON; twice, where a tool encoded it twice."""
    for _ in range(2):
        if isinstance(value, str) and value[:1] in ('"', "{", "["):
            try:
                value = json.loads(value)
            except ValueError:
                return value
    return value


def answers(value: Any) -> list[str]:
    """The texts of a model's answer in the shape of any tool: a text, a message, parts, or a body with choices."""
    value = parsed(value)
    if isinstance(value, list):
        return [t for v in value for t in answers(v)]
    if not isinstance(value, dict):
        return texts(value)
    if value.get("role") in ("user", "tool", "system"):
        return []
    if "choices" in value:
        streamed = "".join(((c.get("delta") or {}).get("content") or "") for c in value["choices"])
        return texts(streamed) or [t for c in value["choices"] for t in answers(c.get("message"))]
    if isinstance(value.get("parts"), list):
        return [
            t
            for p in value["parts"]
            for t in (texts(p) if isinstance(p, str) else [p["content"]] if p.get("type") == "text" else [])
        ]
    return texts(value.get("content", value.get("text")))


def prompted(value: Any) -> list[str]:
    """The texts of the messages that a model was sent."""
    value = parsed(value)
    if isinstance(value, dict):
        value = value.get("messages", [])
    return [t for m in objects(parsed(value)) if m.get("role") != "assistant" for t in answers({**m, "role": "assistant"})]


def inner_texts(value: Any) -> list[str]:
    """All texts of what a tool gave."""
    value = parsed(value)
    if isinstance(value, dict):
        return [t for v in value.values() for t in inner_texts(v)]
    if isinstance(value, list):
        return [t for v in value for t in inner_texts(v)]
    return texts(value)


def _attributes(span: dict[str, Any]) -> dict[str, Any]:
    given = span.get("attributes") or {}
    if isinstance(given, list):
        return {a["key"]: next(iter(a["value"].values()), None) for a in given}
    return given


def _at(span: dict[str, Any], which: str = "end") -> int | None:
    """When a span ended, or (`start`) began."""
    for name in (f"{which}TimeUnixNano", f"{which}_time", f"{which}Time"):
        value = span.get(name)
        if isinstance(value, list):  # seconds and nanoseconds
            return value[0] * 1_000_000 + value[1] // 1000
        if name == f"{which}TimeUnixNano" and value is not None:
            return int(value) // 1000
        if value is not None:
            return micros(value)
    return None


def _ran(span: dict[str, Any], name: Any, sent: Any, gave: Any) -> Iterator[Said]:
    """A tool's call, and all texts of what came of it, each with the call that it is of."""
    asked = call(name, parsed(sent))
    yield Said(TOOL, asked, _at(span, "start"))
    yield from (Said(RESULT, text, None, asked) for text in inner_texts(gave))


def spans(found: list[Any]) -> Iterator[Said]:
    """What the spans of models and tools say: OTLP, OpenInference, Vercel's, GenAI's, Langfuse's and LangSmith's."""
    for value in found:
        if isinstance(value, list):
            yield from spans(value)
            continue
        for resource in value.get("resourceSpans") or []:
            yield from (s for scope in resource["scopeSpans"] for s in spans(scope["spans"]))
        runs: dict[Any, dict[str, Any]] = {}
        for run in [*(value.get("post") or []), *(value.get("patch") or [])]:
            runs[run["id"]] = {**runs.get(run["id"], {}), **{k: v for k, v in run.items() if v is not None}}
        for one in [*runs.values(), *(value.get("observations") or [])]:
            kind, said, when = (
                str(one.get("run_type") or one.get("type")).lower(),
                one.get("outputs", one.get("output")),
                _at(one),
            )
            if kind in ("llm", "generation"):
                yield from (Said(PERSON, t) for t in prompted(one.get("inputs", one.get("input"))))
                yield from (Said(MODEL, t, when) for t in answers(said) if t != "None")
            elif kind == "tool":
                yield from _ran(one, one["name"], one.get("inputs", one.get("input")), said)
        about, when = _attributes(value), _at(value)
        kind = str(value.get("span_kind") or about.get("openinference.span.kind")).upper()
        if kind == "LLM":
            sent = [v for k, v in about.items() if k.startswith("llm.input_messages.") and k.endswith("message.content")]
            yield from (Said(PERSON, t) for v in sent for t in texts(v))
            flat = [v for k, v in about.items() if k.startswith("llm.output_messages.") and k.endswith(("message.content", "message_content.text"))]  # fmt: skip
            yield from (
                Said(MODEL, t, when) for t in dict.fromkeys(flat or answers(about.get("output.value"))) if t and t.strip()
            )
        elif kind == "TOOL":
            yield from _ran(value, about.get("tool.name") or value["name"], about.get("input.value"), about.get("output.value"))
        if about.get("langfuse.observation.type") == "generation":
            yield from (Said(PERSON, t) for t in prompted(about.get("langfuse.observation.input")))
            yield from (Said(MODEL, t, when) for t in answers(about.get("langfuse.observation.output")))
        for name in ("gen_ai.input.messages", "ai.prompt.messages"):
            yield from (Said(PERSON, t) for t in prompted(about.get(name)))
        yield from (Said(MODEL, t, when) for t in answers(about.get("gen_ai.output.messages")))
        if str(about.get("ai.operationId")).endswith(("doGenerate", "doStream")):
            yield from (Said(MODEL, t, when) for t in texts(about.get("ai.response.text") or about.get("ai.response.object")))
        elif "ai.toolCall.name" in about:
            yield from _ran(value, about["ai.toolCall.name"], about.get("ai.toolCall.args"), about.get("ai.toolCall.result"))
        elif about.get("gen_ai.operation.name") == "execute_tool":
            sent, gave = about.get("gen_ai.tool.call.arguments"), about.get("gen_ai.tool.call.result")
            yield from _ran(value, about["gen_ai.tool.name"], sent, gave)


def opencode(found: list[Any]) -> Iterator[Said]:
    for message in sorted(
        (r for r in found if r["table"] == "message"), key=lambda r: (r["session_id"], r["time_created"], r["id"])
    ):
        times = message["data"].get("time") or {}
        when = micros(times.get("completed") or times.get("created"))
        for part in (r["data"] for r in found if r["table"] == "part" and r["message_id"] == message["id"]):
            if part["type"] == "text":
                yield Said(MODEL if message["data"]["role"] == "assistant" else PERSON, part["text"], when)
            elif part["type"] == "reasoning":
                yield Said(THOUGHT, part["text"], when)
            elif part["type"] == "tool":
                yield Said(TOOL, call(part["tool"], part["state"]["input"]), when)
                yield Said(RESULT, part["state"]["output"], None, part["callID"])


def cursor(found: list[Any]) -> Iterator[Said]:
    """Transcripts, chats of bubbles, and chats whose root lists the digests of their messages."""
    if "table" not in found[0]:
        yield from lines_of_chat(found)
        return
    bubbles = {r["key"]: r["value"] for r in found if r["table"] == "cursorDiskKV"}
    for key, chat_ in bubbles.items():
        for head in chat_["fullConversationHeadersOnly"] if key.startswith("composerData:") else ():
            bubble = bubbles[f"bubbleId:{key.partition(':')[2]}:{head['bubbleId']}"]
            when, tool = micros(bubble["createdAt"]), bubble.get("toolFormerData")
            yield from (Said(THOUGHT, t, when) for t in texts((bubble.get("thinking") or {}).get("text")))
            yield from (Said(PERSON if bubble["type"] == 1 else MODEL, t, when) for t in texts(bubble.get("text")))
            if tool:
                yield Said(TOOL, call(tool["name"], tool["rawArgs"]))
                yield from (Said(PROGRAM, t) for t in inner_texts(tool["result"]))
    blobs = {r["id"]: r["data"] for r in found if r["table"] == "blobs"}
    for about in (r["value"] for r in found if r["table"] == "meta"):
        root = blobs[json.loads(bytes.fromhex(about))["latestRootBlobId"]]
        for digest in re.findall("0a20([0-9a-f]{64})", root):
            message = blobs[digest]
            for part in objects(message["content"]):
                if part["type"] == "reasoning":
                    yield Said(THOUGHT, part["text"])
                elif part["type"] == "tool-call":
                    yield Said(TOOL, call(part["toolName"], part["args"]))
                elif part["type"] == "tool-result":
                    yield Said(RESULT, part["result"], None, part["toolCallId"])
            if message["role"] in ("user", "assistant"):
                kind = MODEL if message["role"] == "assistant" else PERSON
                yield from (Said(kind, t) for p in objects(message["content"]) or [message["content"]] for t in texts(p if isinstance(p, str) else p["text"] if p["type"] == "text" else None))  # fmt: skip


def aider(found: list[str]) -> Iterator[Said]:
    """`####` is the person, `>` the program, all else the model; lines of one speaker that follow each other are one text."""
    held: list[str] = []
    before = PROGRAM
    for line in [*found, "> the end"]:
        kind = PERSON if line.startswith("####") else PROGRAM if line.startswith((">", "# aider chat started")) else MODEL
        if kind != before and (line.strip() or before == MODEL):
            text = "\n".join(held).strip()
            if text and before != PROGRAM and not text.startswith("/"):
                yield Said(before, text)
            held, before = [], kind
        held.append(line.removeprefix("#### "))


def verifiers_traces(found: list[Any]) -> Iterator[Said]:
    """The nodes of each trace, in order; a sampled one has the time at which the last call that it names ended."""
    for row in found:
        for trace in row.get("traces", [row]):
            ended = {c.get("node"): (c.get("time") or {}).get("end") for c in trace.get("calls") or []}
            for n, node in enumerate(trace["nodes"]):
                message, when = node["message"], ended.get(n) or node.get("timestamp")
                if message["role"] == "assistant" and not node.get("sampled"):
                    yield from (Said(PROGRAM, t) for t in texts(message["content"]))
                    continue
                if message.get("reasoning_content"):
                    yield Said(THOUGHT, message["reasoning_content"], micros(when))
                yield from chat(message, when)


def completions(found: list[Any]) -> Iterator[Said]:
    """Each completion behind its prompt. An answer in a prompt is of nobody who is rated here."""
    for row in found:
        asked = row.get("prompt", row.get("instruction"))
        told = row.get("completions") or [row.get("completion", row.get("response"))]
        for one in told:
            for message in asked if isinstance(asked, list) else [{"role": "user", "content": asked}]:
                yield from (
                    (Said(PROGRAM, t) for t in texts(message["content"])) if message["role"] == "assistant" else chat(message)
                )
            said = one.get("response") if isinstance(one, dict) else one
            for message in said if isinstance(said, list) else [{"role": "assistant", "content": said}]:
                yield from chat(message)


def batches(found: list[Any]) -> Iterator[Said]:
    """The body of each answer, in the shape of the API that gave it: of OpenAI, of Anthropic (Bedrock's, too), of Gemini."""
    for row in found:
        body = (
            (row.get("response") or {}).get("body")
            or row.get("response")
            or (row.get("result") or {}).get("message")
            or row.get("modelOutput")
            or {}
        )
        yield from (s for choice in body.get("choices") or [] for s in chat(choice["message"], body.get("created")))
        blocks = body.get("content") or [p for c in body.get("candidates") or [] for p in c["content"]["parts"]]
        for block in blocks:
            thought = block.get("thinking") or (block.get("text") if block.get("thought") else None)
            yield from [Said(THOUGHT, thought)] if thought else (Said(MODEL, t) for t in texts(block.get("text")))
        for message in (row.get("modelInput") or row.get("request") or {}).get("messages") or []:
            yield from (s for s in chat(message) if s.kind == PERSON)


def kimi_code(found: list[Any]) -> Iterator[Said]:
    """The lines of all wires of a session: messages, and the parts, calls and results of a step."""
    for line in found:
        message, event, when = line.get("message"), line.get("event") or {}, micros(line.get("time"))
        if message is not None:
            kind = PERSON if message["origin"]["kind"] in ("user", "system_trigger") else PROGRAM
            yield from (Said(kind, t, when) for t in texts(message["content"]))
        part = event.get("part") or {}
        yield from (Said(THOUGHT, t, when) for t in texts(part.get("think")))
        yield from (Said(MODEL, t, when) for t in texts(part.get("text")))
        if event.get("type") == "tool.call":
            yield Said(TOOL, call(event["name"], event["args"]), when)
        elif event.get("type") == "tool.result":
            yield from (Said(RESULT, t, None, event["toolCallId"]) for t in texts(event["result"]["output"]))


def harbor(found: list[Any]) -> Iterator[Said]:
    """What the agent of a trial wrote: its trajectory; the other files say what came of it."""
    yield from atif([value for value in found if isinstance(value, dict) and "steps" in value])


def odograph(found: list[Any]) -> Iterator[Said]:
    """Records of Odograph's own export: what an observation, an answer and an action say."""
    for line in found:
        kind = line.get("kind")
        if kind == "step":
            yield from (Said(PERSON, t) for t in texts(line.get("observation")))
        elif kind == "llm_call":
            yield from (Said(MODEL, t) for t in answers(line.get("response")))
        elif kind == "action":
            yield Said(TOOL, call(line["name"], line.get("arguments")))
            yield from (Said(RESULT, t, None, line.get("tool_call_id")) for t in texts(line.get("result")))


READERS: dict[str, Callable[[list[Any]], Iterator[Said]]] = {
    "claude-code": claude_code,
    "codex": codex,
    "gemini-cli": gemini,
    "pi-session": pi,
    "inspect": inspect,
    "swe-agent": swe_agent,
    "mini-swe-agent": mini_swe_agent,
    "openhands": openhands,
    "tau-bench": tau_bench,
    "tau2-bench": tau2_bench,
    "verifiers": verifiers,
    "atif": atif,
    "agentbench": agentbench,
    "intercode": intercode,
    "letta-evals": letta,
    "agent-lightning": agent_lightning,
    "hf-traces": hub,
    "smolagents": smolagents,
    "qwen-code": qwen_code,
    "droid": droid,
    "claude-stream": stream,
    "kimi": lines_of_chat,
    "cursor": cursor,
    "opencode": opencode,
    "aider": aider,
    "openai-chat": rows_of_chat,
    "anthropic-messages": rows_of_chat,
    "goose": goose,
    "cline": cline,
    "cline-cli": cline_cli,
    "amp": amp,
    "copilot": copilot,
    "sharegpt": sharegpt,
    "codex-exec": codex_exec,
    "continue": continue_dev,
    "copilot-chat": copilot_chat,
    "eliza": eliza,
    "art": art,
    "atropos": atropos,
    "preferences": preferences,
    "aworld": aworld,
    "terminal-bench": terminal_bench,
    "spans": spans,
    "verifiers-traces": verifiers_traces,
    "completions": completions,
    "batches": batches,
    "kimi-code": kimi_code,
    "harbor": harbor,
    "odograph": odograph,
}
