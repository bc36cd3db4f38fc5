"""Sessions of coding agents and rows for training, written by hand in the shapes in which the programs write them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

T = "2026-03-01T10:00:{:02d}.000Z"
MS = 1_772_359_200_000


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def use(id: str, name: str, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": given}


def result(id: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **more}


COPILOT = [
    {"type": "session.start", "id": "e0", "parentId": None, "timestamp": T.format(0), "data": {"sessionId": "cp", "copilotVersion": "1.0", "startTime": T.format(0), "selectedModel": "m"}},
    {"type": "user.message", "id": "e1", "parentId": "e0", "timestamp": T.format(1), "data": {"content": "Mend the net", "transformedContent": "<now/>Mend the net", "attachments": []}},
    {"type": "assistant.turn_start", "id": "e2", "parentId": "e1", "timestamp": T.format(1), "data": {"turnId": "0"}},
    {"type": "assistant.message", "id": "e3", "parentId": "e2", "timestamp": T.format(2), "data": {"messageId": "x", "content": "", "reasoningText": "which knot", "toolRequests": [{"toolCallId": "c1", "name": "bash", "arguments": {"command": "ls"}}], "outputTokens": 4}},
    {"type": "assistant.usage", "id": "e4", "parentId": "e3", "timestamp": T.format(2), "data": {"model": "m", "inputTokens": 15, "outputTokens": 5, "cacheReadTokens": 2}},
    {"type": "tool.execution_start", "id": "e5", "parentId": "e3", "timestamp": T.format(3), "data": {"toolCallId": "c1", "toolName": "bash", "arguments": {"command": "ls"}}},
    {"type": "tool.execution_complete", "id": "e6", "parentId": "e5", "timestamp": T.format(5), "data": {"toolCallId": "c1", "success": False, "result": {"content": "twine", "detailedContent": "twine!"}}},
    {"type": "session.model_change", "id": "e7", "parentId": "e6", "timestamp": T.format(6), "data": {"newModel": "n"}},
    {"type": "session.compaction_complete", "id": "e8", "parentId": "e7", "timestamp": T.format(6), "data": {"success": True, "summaryContent": "so far: twine"}},
    {"type": "assistant.message", "id": "e9", "parentId": "e8", "timestamp": T.format(7), "data": {"messageId": "y", "content": "Mended", "toolRequests": []}},
    {"type": "user.message", "id": "ea", "parentId": "e9", "timestamp": T.format(8), "data": {"content": "And the sail"}},
]  # fmt: skip
#: The same as newer versions write it: the system prompt behind the person's message, what a call used before its answer.
COPILOT_NEW = [
    *COPILOT[:2],
    {"type": "system.message", "id": "n0", "parentId": "e1", "timestamp": T.format(1), "data": {"role": "system", "content": "be brief"}},
    {"type": "session.usage_record", "id": "n1", "parentId": "n0", "timestamp": T.format(2), "data": {"usage": {"model": "m", "inputTokens": 15, "outputTokens": 5, "cacheReadTokens": 2, "duration": 250, "finishReason": "tool_calls", "apiCallId": "k1"}}},
    {**COPILOT[3], "data": {**COPILOT[3]["data"], "apiCallId": "k1"}},
    COPILOT[5],
    {**COPILOT[6], "data": {**COPILOT[6]["data"], "success": True, "shellExecution": {"exitCode": 2}}},
    *COPILOT[9:],
]  # fmt: skip


def inner(event: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {**event, "agentId": "ag-1", "data": {**event["data"], **data}}


def event(n: int, kind: str, **data: Any) -> dict[str, Any]:
    return {"type": kind, "id": f"v{n}", "parentId": f"v{n - 1}", "timestamp": T.format(n), "data": data}


def asks(id: str, name: str, **given: Any) -> dict[str, Any]:
    return {"toolRequests": [{"toolCallId": id, "name": name, "arguments": given}], "content": ""}


COPILOT_TREE = [
    event(0, "session.start", sessionId="cp", startTime=T.format(0), selectedModel="m"),
    event(1, "user.message", content="Raise the mast"),
    event(2, "assistant.message", **asks("c1", "task", prompt="find rope"), reasoningText="who helps"),
    event(3, "tool.execution_start", toolCallId="c1", toolName="task", arguments={"prompt": "find rope"}),
    inner(event(4, "subagent.started", toolCallId="c1", agentName="scout")),
    inner(event(5, "user.message", content="find rope")),
    inner(event(6, "system.message", role="system", content="You scout")),
    inner(event(7, "assistant.message", **asks("c2", "bash", command="ls"), parentToolCallId="c1")),
    inner(event(8, "tool.execution_complete", toolCallId="c2", success=True, result={"content": "hemp"}, parentToolCallId="c1")),
    inner(event(9, "assistant.message", content="hemp it is", parentToolCallId="c1")),
    event(10, "tool.execution_complete", toolCallId="c1", success=True, result={"content": "hemp it is"}),
    event(11, "assistant.message", content="Raised"),
    event(12, "session.resume"),
    event(13, "user.message", content="Lower it"),
    event(14, "assistant.message", content="Lowered"),
]
DROID = [
    {"type": "session_start", "id": "dr", "title": "t", "owner": "o", "version": 2, "cwd": "/w"},
    {"type": "message", "id": "1", "timestamp": T.format(1), "message": {"role": "user", "content": [said("<system-reminder>x</system-reminder>"), said("Mend the net")]}},
    {"type": "message", "id": "2", "timestamp": T.format(2), "parentId": "1", "message": {"role": "assistant", "content": [{"type": "thinking", "thinking": "which knot", "signature": "s"}, use("c1", "Execute", command="ls")]}},
    {"type": "message", "id": "3", "timestamp": T.format(3), "parentId": "2", "message": {"role": "user", "content": [result("c1", "twine", is_error=True)]}},
    {"type": "todo_state", "id": "t", "timestamp": T.format(3), "todos": {}},
    {"type": "message", "id": "4", "timestamp": T.format(4), "parentId": "3", "message": {"role": "assistant", "content": [said("Mended")]}},
]  # fmt: skip
KIMI = [
    {"role": "_system_prompt", "content": "be brief"},
    {"role": "_checkpoint", "id": 0},
    {"role": "user", "content": "Mend the net"},
    {"role": "assistant", "content": [{"type": "think", "think": "which knot"}], "tool_calls": [{"type": "function", "id": "c1", "function": {"name": "Shell", "arguments": "{\"command\": \"ls\"}"}}]},
    {"role": "_usage", "token_count": 90},
    {"role": "tool", "content": [said("twine")], "tool_call_id": "c1"},
    {"role": "assistant", "content": "Mended"},
    {"role": "_usage", "token_count": 120},
]  # fmt: skip
CURSOR = [
    {"role": "user", "message": {"content": [said("<user_query>\nMend the net\n</user_query>")]}},
    {
        "role": "assistant",
        "message": {"content": [said("I look"), {"type": "tool_use", "name": "Shell", "input": {"command": "ls"}}]},
    },
    {"role": "assistant", "message": {"content": [said("Mended")]}},
]
GOOSE = [
    {"working_dir": "/w", "description": "d", "message_count": 3, "total_tokens": 40, "input_tokens": 30, "output_tokens": 10, "accumulated_input_tokens": 60, "accumulated_output_tokens": 20},
    {"role": "user", "created": 1772359201, "content": [said("Mend the net")]},
    {"role": "assistant", "created": 1772359202, "content": [{"type": "thinking", "thinking": "which knot", "signature": ""}, {"type": "toolRequest", "id": "c1", "toolCall": {"status": "success", "value": {"name": "developer__shell", "arguments": {"command": "ls"}}}}]},
    {"role": "user", "created": 1772359203, "content": [{"type": "toolResponse", "id": "c1", "toolResult": {"status": "success", "value": [said("twine")]}}]},
    {"role": "assistant", "created": 1772359204, "content": [said("Mended")]},
]  # fmt: skip


def goose_message(id: str, role: str, at: int, *content: Any, hidden: bool = False, sent: bool = True) -> dict[str, Any]:
    """A message of a newer Goose. `hidden`: people don't see it; `sent`: the model does."""
    meta = {"userVisible": not hidden, "agentVisible": sent}
    return {"id": id, "role": role, "created": 1772359200 + at, "content": list(content), "metadata": meta}


def goose_asks(id: str, command: str, thought: str | None = None) -> list[dict[str, Any]]:
    thoughts = [{"type": "thinking", "thinking": thought, "signature": "s"}] if thought else []
    return [*thoughts, {"type": "toolRequest", "id": id, "toolCall": {"status": "success", "value": {"name": "shell", "arguments": {"command": command}}}}]  # fmt: skip


def goose_gives(id: str, *content: Any) -> dict[str, Any]:
    return {"type": "toolResponse", "id": id, "toolResult": {"status": "success", "value": {"content": list(content), "isError": False}}}  # fmt: skip


def goose_talk(size: int) -> list[dict[str, Any]]:
    """A session of a newer Goose after so many messages: two calls of one reply, which are told apart from two replies by the
    thoughts, and again by the times; a compaction, which hides what stood before; a command of the person."""
    shown = {"annotations": {"audience": ["user"]}}
    asked = goose_message("m13", "user", 8, said("and the oar"))
    messages = [
        goose_message("m1", "user", 0, said("Mend the net")),
        goose_message("m2", "assistant", 1, said("I look")),
        goose_message("m3", "assistant", 1, goose_asks("", "", "which knot")[0]),
        goose_message("m4", "assistant", 1, *goose_asks("c1", "ls", "which knot")),
        goose_message("m5", "user", 1, goose_gives("c1", said("twine"), {**said("TWINE"), **shown})),
        goose_message("m6", "assistant", 1, *goose_asks("c2", "pwd", "which knot")),
        goose_message("m7", "user", 1, goose_gives("c2", said("/w"))),
        goose_message("m8", "assistant", 4, *goose_asks("c3", "a")),
        goose_message("m9", "user", 2, goose_gives("c3", said("A"))),
        goose_message("m10", "assistant", 4, *goose_asks("c4", "b")),
        goose_message("m11", "user", 2, goose_gives("c4", said("B"))),
        goose_message("m12", "assistant", 5, said("Mended")),
        asked,
        goose_message("s1", "user", 9, said("a net was mended"), hidden=True),
        goose_message("s2", "assistant", 9, said("Your context was compacted."), hidden=True),
        goose_message("s3", "user", 9, said("and the oar")),
        goose_message("m14", "assistant", 10, said("The oar, too")),
        goose_message("m15", "user", 11, said("/compact"), sent=False),
        goose_message("m16", "assistant", 11, said("Compacted"), sent=False),
        goose_message("m17", "user", 12, said("thanks")),
        goose_message("m18", "assistant", 13, said("Mended")),
    ]
    messages[12:13] = [asked if size < 16 else {**asked, "metadata": {"userVisible": False, "agentVisible": False}}]
    gone = [{**m, "metadata": {**m["metadata"], "agentVisible": False}} for m in messages[:13]]
    return messages[:size] if size < 16 else [*gone, *messages[13:size]]


ATROPOS = [
    {"tokens": [[1, 2, 3, 4, 5], [1, 2, 9]], "masks": [[-100, -100, 3, -100, 5], [-100, -100, 9]], "scores": [1.0, 0], "inference_logprobs": [[1.0, 1.0, -0.1, 1.0, -0.2], [1.0, 1.0, -0.5]], "messages": [[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "tool", "content": "t"}, {"role": "assistant", "content": "b"}], [{"role": "user", "content": "q"}, {"role": "assistant", "content": "c"}]]},
    {"tokens": [[1, 2]], "masks": [[-100, 2]], "scores": [0.5], "messages": ["<|user|>q<|assistant|>a"]},
    {"tokens": [[1, 2, 3, 4]], "masks": [[-100, 2, -100, 4]], "scores": [0.5], "messages": [[{"role": "user", "content": "How deep"}, {"role": "assistant", "content": "I drop a line", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "drop", "arguments": "{\"m\": 3}"}}]}, {"role": "tool", "tool_call_id": "c", "content": "three fathoms"}, {"role": "assistant", "content": "three"}]]},
]  # fmt: skip
LIGHTNING = [
    {
        "rollout": {"rollout_id": f"r{n}", "status": "succeeded", "input": {"question": "q"}, "created_at": 1772359200.5, "updated_at": 1772359209.5, "metadata": {"batch_idx": 1, "sample_idx_in_batch": 0}},
        "events": [
            {"event_type": "model_request", "timestamp": 1772359201.5, "attempt_id": "a", "data": {"request": {"messages": [{"role": "user", "content": "q"}], "model": "m"}, "response": {"object": "chat.completion", "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "token_ids": [7, 8]}], "prompt_token_ids": [1, 2, 3], "usage": None}}},
            {"event_type": "model_request", "timestamp": 1772359202.5, "data": {"request": {"messages": [{"role": "user", "content": "q2"}], "model": "m", "stream": True}, "response": [{"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]}, {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": "stop"}]}]}},
            {"event_type": "reward", "timestamp": 1772359203.5, "data": {"value": 0.5, "reason": "half"}},
        ],
        "resources": None,
    }
    for n in range(2)
]  # fmt: skip
CHOICE = {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": "a", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, "logprobs": {"content": [{"token": "token_id:7", "logprob": -0.5}]}}  # fmt: skip
ART = [
    {"trajectories": [
        {"messages_and_choices": [{"role": "user", "content": "q"}, CHOICE, {"role": "tool", "tool_call_id": "c", "content": "t"}], "reward": r, "metrics": {"turns": 1}, "metadata": {"k": "v"}, "additional_histories": [], "tools": None, "logs": ["x"]}
        for r in (1.0, 0.0)
    ], "metadata": {"scenario": "s1"}},
    {"exchanges": [{"request": {"model": "m", "messages": [{"role": "user", "content": "q"}]}, "response": {"model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}}], "reward": 0.5, "metrics": {}, "metadata": {}},
]  # fmt: skip
PREFERENCES = [
    {"prompt": "q", "chosen": "good", "rejected": "bad", "score_chosen": 8.0, "score_rejected": 2.0},
    {"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "good"}], "rejected": [{"role": "assistant", "content": "bad"}]},
    {"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}]},
    {"prompt": "q", "completion": "fine", "label": True},
]  # fmt: skip

#: Files of lines, which grow.
LINES: dict[str, tuple[str, list[Any]]] = {
    "copilot": ("events.jsonl", COPILOT),
    "droid": ("dr.jsonl", DROID),
    "kimi": ("0000-aaaa-kimi.jsonl", KIMI),
    "cursor": ("cu.jsonl", CURSOR),
    "goose": ("go.jsonl", GOOSE),
    "atropos": ("at.jsonl", ATROPOS),
    "agent-lightning": ("al.jsonl", LIGHTNING),
    "art": ("ar.jsonl", ART),
    "preferences": ("pr.jsonl", PREFERENCES),
}

CLINE = [
    {"role": "user", "ts": MS + 1000, "content": [said("<task>\nMend the net\n</task>"), said("<environment_details>x</environment_details>")]},
    {"role": "assistant", "ts": MS + 2000, "content": [{"type": "thinking", "thinking": "which knot"}, use("c1", "execute_command", command="ls")], "modelInfo": {"modelId": "m"}, "metrics": {"tokens": {"prompt": 5, "cached": 20, "completion": 2}, "cost": 0.5}},
    {"role": "user", "ts": MS + 3000, "content": [result("c1", [said("twine")])]},
    {"role": "assistant", "ts": MS + 4000, "content": [said("Mended")], "modelInfo": {"modelId": "m"}},
]  # fmt: skip
IN_TERMINAL = "Command executed in terminal within working directory '/w'. "
XML: list[tuple[str, list[dict[str, Any]]]] = [
    ("user", [said("<task>\nMend the net\n</task>")]),
    ("assistant", [said("<thinking>\nI could <read_file> it\n</thinking>\nI look\n<execute_command>\n<command>ls &&\nls</command>\n<requires_approval>false</requires_approval>\n</execute_command>")]),
    ("user", [said("[execute_command for 'ls &&\nls'] Result:"), said(f"{IN_TERMINAL}Exit code: 2\nOutput:\ntwine"), said("<environment_details>\nx\n</environment_details>")]),
    ("assistant", [said("<write_to_file>\n<path>a.md</path>\n<content>\n# a\n<content>b</content>\n</content>\n</write_to_file>")]),
    ("user", [said("[write_to_file for 'a.md'] Result:\nThe content was saved"), {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}]),
    ("assistant", [said("<read_file>\n<args>\n<file><path>a.md</path></file>\n</args>\n</read_file>")]),
    ("user", [said("[read_file for 'a.md'] Result:"), said("The tool execution failed with the following error:\n<error>\nno\n</error>")]),
    ("assistant", [said("`<read_file>` failed\n<attempt_completion>\n<result>Mended</result>\n</attempt_completion>")]),
    ("user", [said("[attempt_completion] Result:"), said("<feedback>thanks</feedback>")]),
    ("assistant", [said("and then <execute_command>\n<command>cut off")]),
]  # fmt: skip


def in_xml(size: int) -> list[dict[str, Any]]:
    """The first messages of a task of an older Cline or Roo, whose answers ask for tools in their text."""
    return [{"role": role, "ts": MS + n, "content": content} for n, (role, content) in enumerate(XML[:size])]


CLINE_CLI: dict[str, Any] = {
    "version": 1, "agent": "lead", "sessionId": "1772359200000_ab", "system_prompt": "be brief",
    "origin": {"source": "cli", "mode": "user", "sessionId": "1772359200000_ab", "version": "3.0"},
    "messages": [
        {"id": "a1", "role": "user", "ts": MS + 1000, "content": [said('<user_input mode="act">Mend the net</user_input>')]},
        {"id": "a2", "role": "assistant", "ts": MS + 2000, "content": [{"type": "thinking", "thinking": "which knot"}, use("c1", "run_commands", commands="ls")], "modelInfo": {"id": "m"}, "metrics": {"inputTokens": 25, "outputTokens": 2, "cacheReadTokens": 20, "cacheWriteTokens": 0}},
        {"id": "a3", "role": "user", "ts": MS + 3000, "content": [result("c1", [{"query": "ls", "result": "twine", "success": False}])]},
        {"id": "a4", "role": "assistant", "ts": MS + 3500, "content": [said("The server is away")], "metadata": {"displayOnly": True, "displayRole": "error"}},
        {"id": "a5", "role": "assistant", "ts": MS + 4000, "content": [said("Mended")], "modelInfo": {"id": "m"}},
    ],
}  # fmt: skip
#: The same with a sub-agent, whose file is there before its result.
CLINE_LEAD = [
    *CLINE_CLI["messages"][:4],
    {"id": "a6", "role": "assistant", "ts": MS + 5000, "content": [use("c2", "spawn_agent", systemPrompt="you help", task="Find a knot")]},
    {"id": "a7", "role": "user", "ts": MS + 8000, "content": [result("c2", '{"text":"a bowline"}')]},
    CLINE_CLI["messages"][4],
]  # fmt: skip
CLINE_SUB = [
    {"id": "s1", "role": "user", "ts": MS + 6000, "content": [said("Find a knot")]},
    {"id": "s2", "role": "assistant", "ts": MS + 7000, "content": [said("a bowline")], "modelInfo": {"id": "m"}},
]
AMP = {
    "v": 9,
    "id": "T-1",
    "created": MS,
    "messages": [
        {"role": "user", "messageId": 0, "content": [said("Mend the net")], "meta": {"sentAt": MS + 1000}},
        {"role": "assistant", "messageId": 1, "content": [{"type": "thinking", "thinking": "which knot"}, {**use("c1", "Bash", cmd="ls"), "complete": True}], "state": {"type": "complete", "stopReason": "tool_use"}, "usage": {"model": "m", "inputTokens": 5, "cacheReadInputTokens": 20, "cacheCreationInputTokens": 0, "outputTokens": 2}},
        {"role": "user", "messageId": 2, "content": [{"type": "tool_result", "toolUseID": "c1", "run": {"status": "done", "result": {"output": "twine", "exitCode": 1}}}]},
        {"role": "assistant", "messageId": 3, "content": [said("Mended")], "state": {"type": "complete", "stopReason": "end_turn"}},
    ],
}  # fmt: skip
CONTINUE = {
    "sessionId": "co",
    "title": "t",
    "workspaceDirectory": "/w",
    "history": [
        {"message": {"role": "user", "content": "Mend the net"}, "contextItems": [{"name": "net.md", "content": "holes", "description": "d"}]},
        {"message": {"role": "assistant", "content": "", "toolCalls": [{"id": "c1", "type": "function", "function": {"name": "Bash", "arguments": "{\"command\": \"ls\"}"}}], "usage": {"prompt_tokens": 25, "completion_tokens": 2, "model": "m", "cost_cents": 50}}, "contextItems": [], "toolCallStates": [{"toolCallId": "c1", "status": "errored", "output": [{"content": "twine", "name": "r", "description": "d"}]}], "reasoning": {"text": "which knot"}},
        {"message": {"role": "assistant", "content": "Mended"}, "contextItems": []},
    ],
}  # fmt: skip
GOOSE_EXPORT = {
    "id": "20260301_1",
    "working_dir": "/w",
    "name": "d",
    "created_at": "2026-03-01T10:00:00Z",
    "total_tokens": 40,
    "conversation": GOOSE[1:],
}
CHAT = {
    "requesterUsername": "me",
    "responderUsername": "GitHub Copilot",
    "initialLocation": "panel",
    "requests": [
        {
            "requestId": "q1",
            "timestamp": MS + 1000,
            "modelId": "copilot/m",
            "message": {"text": "Mend the net", "parts": []},
            "variableData": {"variables": []},
            "response": [{"value": "Look"}, {"kind": "thinking", "value": "which knot"}, {"value": " Mended"}],
            "result": {"metadata": {
                "toolCallRounds": [
                    {"id": "a", "response": "Look", "thinking": {"id": "t", "text": "which knot"}, "toolCalls": [{"id": "c1", "name": "run_in_terminal", "arguments": "{\"command\": \"ls\"}"}]},
                    {"id": "b", "response": "Mended", "toolCalls": []},
                ],
                "toolCallResults": {"c1": {"content": [{"kind": "text", "value": "twine"}]}},
            }},
        },
    ],
}  # fmt: skip
AIDER = """
# aider chat started at 2026-03-01 10:00:00

> Aider v0.80
> Main model: m with diff edit format

#### Mend the net
#### with twine

I look at it.

```
ls
```

> Tokens: 1.5k sent, 20 received. Cost: $0.25 message, $0.25 session.
> Applied edit to net.txt

#### /exit

# aider chat started at 2026-03-01 11:00:00

> Aider v0.80

#### And the sail

Sewn.
"""

#: Files that are one value, which is written anew: a name, and the value with its list of messages cut after so many.
WHOLE: dict[str, tuple[str, Any]] = {
    "cline": ("1772359200000/api_conversation_history.json", lambda n: CLINE[:n]),
    "cline-cli": ("a/1772359200000_ab.messages.json", lambda n: {**CLINE_CLI, "messages": CLINE_CLI["messages"][:n]}),
    "amp": ("T-1.json", lambda n: {**AMP, "messages": AMP["messages"][:n]}),
    "continue": ("co.json", lambda n: {**CONTINUE, "history": CONTINUE["history"][:n]}),
    "goose": ("export.json", lambda n: {**GOOSE_EXPORT, "conversation": GOOSE[1:][:n]}),
    "copilot-chat": ("chat.json", lambda n: {**CHAT, "requests": CHAT["requests"][:n]}),
}


def opencode(path: Path, parts: int = 99) -> Path:
    """OpenCode's database, with a session, its sub-agent's, and a compaction; of the messages the first parts alone."""
    database = sqlite3.connect(path)
    database.executescript(
        "create table if not exists project (id text); create table if not exists session (id text, project_id text, parent_id text, slug text, directory text, title text, version text, time_created integer, time_updated integer);"
        "create table if not exists message (id text primary key, session_id text, time_created integer, data text); create table if not exists part (id text primary key, message_id text, session_id text, data text);"
        "delete from session; delete from message; delete from part;"
    )
    tokens = {"input": 5, "output": 2, "reasoning": 1, "cache": {"read": 20, "write": 0}}
    state = {
        "status": "completed",
        "input": {"command": "ls"},
        "output": "twine",
        "metadata": {"exit": 1},
        "time": {"start": MS + 2000, "end": MS + 2500},
    }
    rows: list[tuple[str, str, str, dict[str, Any], list[dict[str, Any]]]] = [
        ("s1", "m1", "user", {}, [said("Mend the net")]),
        ("s1", "m2", "assistant", {"modelID": "m", "tokens": tokens, "cost": 0.5, "finish": "tool-calls", "time": {"created": MS + 1500, "completed": MS + 3000}}, [{"type": "reasoning", "text": "which knot"}, {"type": "tool", "tool": "bash", "callID": "c1", "state": state}]),
        ("s1", "m3", "assistant", {"modelID": "m", "summary": True, "time": {"created": MS + 4000}}, [said("so far: twine")]),
        ("s1", "m4", "assistant", {"modelID": "m", "time": {"created": MS + 5000}}, [said("Mended")]),
        ("s2", "m5", "user", {}, [said("find twine")]),
        ("s2", "m6", "assistant", {"modelID": "m", "time": {"created": MS + 6000}}, [said("by the door")]),
    ]  # fmt: skip
    for id, parent in (("s1", None), ("s2", "s1")):
        database.execute("insert into session values (?, 'p', ?, 'x', '/w', 't', '1.2', ?, ?)", (id, parent, MS, MS))
    count = 0
    for n, (session, id, role, about, many) in enumerate(rows):
        kept = many[: max(0, parts - count)]
        count += len(many)
        if kept:
            about = {"time": {"created": MS + n}, **about, "role": role}
            database.execute("insert into message values (?, ?, ?, ?)", (id, session, MS + n, json.dumps(about)))
        for k, part in enumerate(kept):
            database.execute("insert into part values (?, ?, ?, ?)", (f"{id}-{k}", id, session, json.dumps(part)))
    database.commit()
    database.close()
    return path


def cursor(path: Path, **about: Any) -> Path:
    """Cursor's database with one chat, and one that is empty. `about`: of its tool call."""
    database = sqlite3.connect(path)
    database.execute("create table cursorDiskKV (key text unique, value blob)")
    tool = {
        "toolCallId": "c1",
        "name": "run_terminal_cmd",
        "rawArgs": '{"command": "ls"}',
        "status": "error",
        "result": '{"output": "twine"}',
        **about,
    }
    bubbles = {
        "b1": {
            "type": 1,
            "text": "Mend the net",
            "createdAt": T.format(1),
            "context": {"fileSelections": ["net.md"], "mentions": {}},
        },
        "b2": {
            "type": 2,
            "thinking": {"text": "which knot"},
            "createdAt": T.format(2),
            "tokenCount": {"inputTokens": 25, "outputTokens": 2},
        },
        "b3": {"type": 2, "text": "", "toolFormerData": tool, "createdAt": T.format(3)},
        "b4": {"type": 2, "text": "Mended", "createdAt": T.format(4), "tokenCount": {"inputTokens": 0, "outputTokens": 0}},
    }
    headers = [{"bubbleId": id, "type": b["type"]} for id, b in bubbles.items()]
    composer = {
        "composerId": "c9",
        "_v": 3,
        "createdAt": MS,
        "name": "n",
        "modelConfig": {"modelName": "m"},
        "fullConversationHeadersOnly": headers,
    }
    rows = {"composerData:c9": composer, "composerData:c0": {"composerId": "c0", "fullConversationHeadersOnly": []}, "other": 3}
    rows |= {f"bubbleId:c9:{id}": {"bubbleId": id, **b} for id, b in bubbles.items()}
    database.executemany("insert into cursorDiskKV values (?, ?)", [(k, json.dumps(v)) for k, v in rows.items()])
    database.commit()
    database.close()
    return path


STORE = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": [said("<user_info>\nlinux\n</user_info>")]},
    {"role": "user", "content": [said("<user_query>\nMend the net\n</user_query>")]},
    {"id": "1", "role": "assistant", "content": [{"type": "reasoning", "text": "which knot", "signature": "s"}, {"type": "tool-call", "toolCallId": "t1", "toolName": "Shell", "args": {"command": "ls"}}]},
    {"role": "tool", "id": "t1", "content": [{"type": "tool-result", "toolCallId": "t1", "toolName": "Shell", "result": "twine"}]},
    {"id": "2", "role": "assistant", "content": [said("Mended")]},
    {"role": "user", "content": "And the sail"},
]  # fmt: skip


def cursor_chat(path: Path, messages: list[Any] = STORE) -> Path:
    """A chat of Cursor's command line: blobs by their digest, and a root that lists those of the messages."""
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path)
    database.execute("create table blobs (id text primary key, data blob)")
    database.execute("create table meta (key text primary key, value text)")
    blobs = [json.dumps(m, separators=(",", ":")).encode() for m in messages]
    root = b"".join(b"\x0a\x20" + hashlib.sha256(b).digest() for b in blobs) + b"\x10\x96\x01" + b"\x4a\x07file:/w"
    database.executemany(
        "insert or ignore into blobs values (?, ?)", [(hashlib.sha256(b).hexdigest(), b) for b in [*blobs, root]]
    )
    about = {"agentId": "c4a7-0001", "latestRootBlobId": hashlib.sha256(root).hexdigest(), "createdAt": MS, "lastUsedModel": "m", "blobEncryptionKey": "k"}  # fmt: skip
    database.execute("insert into meta values ('0', ?)", (json.dumps(about).encode().hex(),))
    database.commit()
    database.close()
    return path


def wire(at: float, kind: str, **payload: Any) -> dict[str, Any]:
    return {"timestamp": MS / 1000 + at, "message": {"type": kind, "payload": payload}}


def shell(id: str, name: str = "Shell", **given: Any) -> dict[str, Any]:
    return {"type": "function", "id": id, "function": {"name": name, "arguments": json.dumps(given)}}


def outcome(id: str, output: str) -> dict[str, Any]:
    return {"tool_call_id": id, "return_value": {"is_error": False, "output": output, "message": "", "display": []}}


def below(kind: str, **payload: Any) -> dict[str, Any]:
    return {"agent_id": "a01", "parent_tool_call_id": "c2", "subagent_type": "scout", "event": {"type": kind, "payload": payload}}


SUMMARY = {"role": "user", "content": [said("<system>Previous context has been compacted.</system>"), said("twine, a bowline")]}
DELEGATED = [
    {"role": "assistant", "content": "", "tool_calls": [shell("c2", "Agent", prompt="Find a knot")]},
    {"role": "tool", "content": "a bowline", "tool_call_id": "c2"},
]
KIMI_BEFORE = [*KIMI[:6], *DELEGATED]
#: What a compaction leaves, and what comes then.
KIMI_AFTER = [KIMI[0], KIMI[1], SUMMARY, *DELEGATED, {"role": "_usage", "token_count": 40}, KIMI[6], KIMI[7]]
KIMI_WIRE = [
    {"type": "metadata", "protocol_version": "1.5"},
    wire(1, "TurnBegin", user_input="Mend the net"), wire(1.5, "StepBegin", n=1),
    wire(2, "ContentPart", type="think", think="which knot", encrypted=None), wire(2.5, "ToolCall", **shell("c1", command="ls")),
    wire(3, "StatusUpdate", token_usage={"input_other": 5, "output": 2, "input_cache_read": 20}, message_id="m1"),
    wire(4, "ToolResult", **outcome("c1", "twine")), wire(5, "StepBegin", n=2), wire(6, "ToolCall", **shell("c2", "Agent", prompt="Find a knot")),
    wire(6.5, "StatusUpdate", token_usage={"input_other": 1, "output": 3, "input_cache_read": 25}),
    wire(7, "SubagentEvent", **below("TurnBegin", user_input="Find a knot")), wire(7, "SubagentEvent", **below("StepBegin", n=1)),
    wire(8, "SubagentEvent", **below("ContentPart", type="text", text="a bowline")),
    wire(9, "ToolResult", **outcome("c2", "a bowline")), wire(10, "CompactionBegin"), wire(11, "CompactionEnd"),
    wire(12, "StepBegin", n=3), wire(13, "ContentPart", type="text", text="Mended"),
    wire(14, "StatusUpdate", token_usage={"input_other": 40, "output": 5}), wire(15, "TurnEnd"),
]  # fmt: skip


def kimi(folder: Path, size: int = 99) -> Path:
    """A session's folder, of which the program has written so many lines of the context: at the eighth, it compacts."""
    folder = folder / "5e55104e-kimi"
    folder.mkdir(exist_ok=True)
    now, before = (KIMI_BEFORE[:size], []) if size <= len(KIMI_BEFORE) else (KIMI_AFTER[: size - len(KIMI_BEFORE)], KIMI_BEFORE)
    for name, values in (("context.jsonl", now), ("context_1.jsonl", before), ("wire.jsonl", KIMI_WIRE[: 2 * size])):
        if values:
            (folder / name).write_text("".join(json.dumps(v) + "\n" for v in values))
    return folder


def smol_run(size: int = 4) -> list[dict[str, Any]]:
    """The steps of a memory of smolagents, of which so many are there: a task, a tool, one that fails, code, an answer."""

    def told(role: str, text: str) -> dict[str, Any]:
        return {"role": role, "content": [said(text)], "tool_calls": None}

    def step(n: int, answer: str, saw: str | None, *asked: dict[str, Any], ran: Any = None, **more: Any) -> dict[str, Any]:
        timing = {"start_time": MS / 1000 + n, "end_time": MS / 1000 + n + 1, "duration": 1.0}
        output = {"role": "assistant", "content": answer, "tool_calls": list(asked) or None, "raw": None}
        usage = {"input_tokens": 10 * n, "output_tokens": n, "total_tokens": 11 * n}
        about = {
            "step_number": n,
            "timing": timing,
            "model_input_messages": list(sent),
            "model_output_message": output,
            "model_output": answer,
        }
        return {
            **about,
            "tool_calls": ran or list(asked),
            "error": None,
            "observations": saw,
            "token_usage": usage,
            "is_final_answer": False,
            **more,
        }

    def ask(id: str, name: str, given: Any) -> dict[str, Any]:
        return {"id": id, "type": "function", "function": {"name": name, "arguments": given}}

    sent = [told("system", "You mend"), told("user", "New task:\nMend the net")]
    steps: list[dict[str, Any]] = [{"task": "Mend the net", "task_images": None}]
    steps.append(step(1, "I look at it", "two holes", ask("a", "look", {"at": "net"})))
    sent += [
        told("assistant", "I look at it"),
        told("tool-call", "Calling tools:\n[look]"),
        told("tool-response", "Observation:\ntwo holes"),
    ]
    steps.append(step(2, "I knot it", None, ask("b", "knot", {"n": 2}), error={"type": "E", "message": "no twine there"}))
    sent += [told("assistant", "I knot it"), told("tool-response", "Error:\nno twine there")]
    code = ask("call_3", "python_interpreter", "mend(2)")
    steps.append(
        step(
            3, "Thought: by hand\n<code>mend(2)</code>", "It is mended", ran=[code], is_final_answer=True, action_output="mended"
        )
    )
    return steps[:size]


def kimi_said(kind: str, at: float, text: str, id: str | None = None, **origin: Any) -> dict[str, Any]:
    message = {
        "role": "user",
        "content": [said(text)],
        "toolCalls": [],
        "origin": {"kind": kind, **origin},
        **({"id": id} if id else {}),
    }
    return {"type": "context.append_message", "agentId": "main", "message": message, "time": MS + at * 1000}


def kimi_loop(kind: str, at: float, **event: Any) -> dict[str, Any]:
    return {"type": "context.append_loop_event", "agentId": "main", "event": {"type": kind, **event}, "time": MS + at * 1000}


def kimi_step(
    id: str, at: float, *inner: dict[str, Any], text: str | None = None, think: str | None = None
) -> list[dict[str, Any]]:
    parts = [p for p in ({"type": "think", "think": think}, {"type": "text", "text": text}) if p[str(p["type"])]]
    usage = {"inputOther": 5, "output": 2, "inputCacheRead": 20, "inputCacheCreation": 0}
    return [
        kimi_loop("step.begin", at, uuid=id),
        {"type": "llm.request", "agentId": "main", "kind": "loop", "model": "m", "toolsHash": "h", "time": MS + at * 1000},
        *(kimi_loop("content.part", at, stepUuid=id, part=part) for part in parts),
        *inner,
        kimi_loop(
            "step.end", at + 1, uuid=id, usage=usage, rawFinishReason="stop", llmFirstTokenLatencyMs=100, llmStreamDurationMs=150
        ),
    ]


def kimi_tool(step: str, id: str, at: float, name: str, **given: Any) -> dict[str, Any]:
    return kimi_loop("tool.call", at, stepUuid=step, toolCallId=id, name=name, args=given)


def kimi_code_main() -> list[dict[str, Any]]:
    """The wire of a session: two tools of one step, which end in another order; a sub-agent; a prompt taken back; a compaction."""
    spawned = {
        "type": "subagent.spawned",
        "subagentId": "agent-0",
        "subagentName": "explore",
        "parentToolCallId": "c3",
        "time": MS + 4000,
    }
    steps = [
        kimi_step("u1", 1, kimi_tool("u1", "c1", 1.1, "Bash", command="ls"), kimi_tool("u1", "c2", 1.2, "Read", path="net.md"),
            kimi_loop("tool.result", 1.3, toolCallId="c2", result={"output": "holes", "note": "<system>one line</system>"}),
            kimi_said("hook_result", 1.35, "a hook"),
            kimi_loop("tool.result", 1.4, toolCallId="c1", result={"output": "twine", "isError": True, "durationMs": 250}),
            text="I look", think="which knot"),
        kimi_step("u2", 3, kimi_tool("u2", "c3", 3.5, "Agent", prompt="Find a knot"), spawned,
            kimi_loop("tool.result", 5, toolCallId="c3", result={"output": "a bowline", "durationMs": 1000})),
        kimi_step("u3", 6, text="Mended"),
        kimi_step("u4", 8, text="Wrong"),
        kimi_step("u5", 11, text="The oar, too"),
        kimi_step("u6", 15, text="Mended"),
    ]  # fmt: skip
    return [
        {"type": "metadata", "protocol_version": "1.5", "created_at": MS},
        {"type": "profile.bind", "agentId": "main", "systemPrompt": "be brief", "time": MS},
        {"type": "llm.tools_snapshot", "agentId": "main", "hash": "h", "tools": [{"name": "Bash", "description": "d", "parameters": {}}], "time": MS},
        {"type": "turn.prompt", "agentId": "main", "input": [said("Mend the net")], "origin": {"kind": "user"}, "time": MS},
        kimi_said("user", 0, "Mend the net", "p1"), kimi_said("injection", 0, "<system-reminder>the date</system-reminder>", variant="date"),
        *steps[0], *steps[1], *steps[2],
        kimi_said("user", 7, "and the boat", "p2"), *steps[3],
        {"type": "context.undo", "agentId": "main", "count": 1, "time": MS + 9000},
        kimi_said("user", 10, "and the oar", "p3"), *steps[4],
        {"type": "context.apply_compaction", "agentId": "main", "summary": "s", "contextSummary": "a net was mended", "keptUserMessageCount": 2, "compactedCount": 9, "time": MS + 13000},
        kimi_said("user", 14, "thanks", "p4"), *steps[5],
    ]  # fmt: skip


def kimi_code(folder: Path, size: int = 99) -> Path:
    """A session's folder, of which the program has written so many lines of the wire."""
    folder = folder / "session_5e55"
    folder.mkdir(parents=True, exist_ok=True)
    lines = kimi_code_main()[:size]
    agent = [
        {"type": "metadata", "protocol_version": "1.5", "created_at": MS + 4000},
        kimi_said("system_trigger", 4, "Find a knot", "q1", name="subagent"),
        *kimi_step("v1", 4.2, text="a bowline"),
    ]
    spawned = next((n for n, line in enumerate(lines) if line["type"] == "subagent.spawned"), len(lines))
    wires = {"main": lines, "agent-0": agent[: 3 * (len(lines) - spawned)]}
    for name, values in wires.items():
        if values:
            (folder / "agents" / name).mkdir(parents=True, exist_ok=True)
            (folder / "agents" / name / "wire.jsonl").write_text("".join(json.dumps(v) + "\n" for v in values))
    state = {"id": "session_5e55", "cwd": "/w", "createdAt": MS, "lastTurnReason": "completed"}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def kimi_code_fork(folder: Path) -> Path:
    """A fork of the session after its third step, which goes on."""
    lines = kimi_code_main()
    begun = next(n for n, line in enumerate(lines) if line.get("message", {}).get("id") == "p2")
    own = [
        {"type": "forked", "agentId": "main", "time": MS + 20000},
        kimi_said("user", 21, "and the sail", "r1"),
        *kimi_step("w1", 22, text="Sailed"),
    ]
    folder = folder / "session_f0f0"
    (folder / "agents" / "main").mkdir(parents=True)
    (folder / "agents" / "main" / "wire.jsonl").write_text("".join(json.dumps(v) + "\n" for v in [*lines[:begun], *own]))
    state = {"id": "session_f0f0", "forkedFrom": "session_5e55", "createdAt": MS + 20000}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def cline_cli(folder: Path, size: int = 99) -> Path:
    """A session of Cline's command line, of which so many messages are written; the fifth starts a sub-agent."""
    folder = folder / CLINE_CLI["sessionId"]
    folder.mkdir(exist_ok=True)
    (folder / f"{folder.name}.messages.json").write_text(json.dumps({**CLINE_CLI, "messages": CLINE_LEAD[:size]}))
    about = {"session_id": folder.name, "status": "completed" if size >= 7 else "running", "model": "m", "prompt": "Mend the net"}
    (folder / f"{folder.name}.json").write_text(json.dumps({**about, "started_at": T.format(0), "interactive": False}))
    if size >= 5:
        sub = {
            "version": 1,
            "agent": "subagent",
            "sessionId": f"{folder.name}__agent_7",
            "origin": {},
            "messages": CLINE_SUB[: size - 4],
        }
        (folder / "agent_7.messages.json").write_text(json.dumps(sub))
    return folder


def goose(path: Path, talk: list[dict[str, Any]] | None = None) -> Path:
    """Goose's database with one session."""
    database = sqlite3.connect(path)
    database.execute(
        "create table sessions (id text, description text, working_dir text, created_at text, accumulated_input_tokens integer, accumulated_output_tokens integer)"
    )
    database.execute(
        "create table messages (id integer primary key, session_id text, role text, content_json text, created_timestamp integer, message_id text, metadata_json text)"
    )
    database.execute("insert into sessions values ('g9', 'd', '/w', '2026-03-01 10:00:00', 60, 20)")
    for message in GOOSE[1:] if talk is None else talk:
        database.execute(
            "insert into messages (session_id, role, content_json, created_timestamp, message_id, metadata_json) values ('g9', ?, ?, ?, ?, ?)",
            (
                message["role"],
                json.dumps(message["content"]),
                message["created"],
                message.get("id"),
                json.dumps(message.get("metadata")),
            ),
        )
    database.commit()
    database.close()
    return path


#: The rows of a session of OpenCode 2: (type, data).
OPENCODE_2: list[tuple[str, dict[str, Any]]] = [
    ("system", {"text": "Instructions: be brief"}),
    ("user", {"text": "Mend the net", "files": [{"mime": "text/plain", "name": "net.md", "data": base64.b64encode(b"torn").decode()}, {"mime": "image/png", "name": "n.png", "data": "AAAA"}]}),
    ("shell", {"command": "ls", "shellID": "x", "status": "exited", "exit": 0, "output": {"output": "twine"}}),
    ("assistant", {
        "agent": "build", "model": {"id": "m", "providerID": "p"}, "finish": "tool-calls", "cost": 0.5, "tokens": {"input": 5, "output": 2, "reasoning": 1, "cache": {"read": 20, "write": 0}},
        "time": {"created": MS + 4000, "streamed": MS + 5000, "completed": MS + 9000},
        "content": [
            {"type": "reasoning", "text": "which knot"}, {"type": "text", "text": "I look"},
            {"type": "tool", "id": "c1", "name": "shell", "state": {"status": "completed", "input": {"command": "ls"}, "content": [{"type": "text", "text": "a rope"}]}, "time": {"created": MS + 4500, "ran": MS + 5000, "completed": MS + 7000}},
            {"type": "tool", "id": "c2", "name": "shell", "state": {"status": "error", "input": {"command": "x"}, "error": {"type": "tool", "message": "no such"}}, "time": {"created": MS + 4500}},
        ],
    }),
    ("model-switched", {"model": {"id": "m2", "providerID": "p"}}),
    ("assistant", {"agent": "build", "model": {"id": "m2", "providerID": "p"}, "time": {"created": MS + 10000, "completed": MS + 11000}, "error": {"type": "provider", "message": "cut"}, "content": [{"type": "text", "text": "half an ans"}]}),
    ("synthetic", {"text": "go on"}),
    ("assistant", {"agent": "build", "model": {"id": "m2", "providerID": "p"}, "finish": "stop", "time": {"created": MS + 12000, "completed": MS + 13000}, "content": [{"type": "text", "text": "Mended"}]}),
    ("compaction", {"status": "completed", "reason": "manual", "summary": "a net was mended", "recent": "Mended", "cost": 0.25}),
    ("user", {"text": "and the oar"}),
    ("assistant", {"agent": "build", "model": {"id": "m2", "providerID": "p"}, "finish": "stop", "time": {"created": MS + 16000, "completed": MS + 17000}, "content": [{"type": "text", "text": "The oar, too"}]}),
    ("idle", {"outcome": "succeeded"}),
]  # fmt: skip


def opencode_2(path: Path, size: int = 99) -> Path:
    """OpenCode's database since version 2, with a session's first messages, a sub-agent's and a fork's."""
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(
            "create table session_v2 (id text, project_id text, parent_id text, fork_session_id text, fork_boundary text, directory text, title text, version text, model text, cost real, time_created integer, time_updated integer);"
            "create table session_message (id text primary key, session_id text, type text, seq integer, time_created integer, time_updated integer, data text);"
        )
        told = [("s1", n, n, row) for n, row in enumerate(OPENCODE_2)]
        told += [("s2", 0, 20, ("user", {"text": "find twine"})), ("s2", 1, 21, ("assistant", {"model": {"id": "m"}, "time": {"created": MS + 21000}, "content": [{"type": "text", "text": "by the door"}]}))]  # fmt: skip
        told += [("s3", n, n, row) for n, row in enumerate(OPENCODE_2[:3])]
        told += [("s3", 3, 31, ("user", {"text": "no, the sail"})), ("s3", 4, 32, ("assistant", {"model": {"id": "m"}, "time": {"created": MS + 32000}, "content": [{"type": "text", "text": "The sail"}]}))]  # fmt: skip
        for id, parent, fork, at in (("s1", None, None, 0), ("s2", "s1", None, 20), ("s3", None, "s1", 30)):
            database.execute("insert into session_v2 values (?, 'p', ?, ?, null, '/w', 't', '2.0.12', '{}', 0, ?, ?)", (id, parent, fork, MS + at * 1000, MS))  # fmt: skip
        for session, seq, at, (kind, data) in told[:size]:
            row = {"time": {"created": MS + at * 1000}, **data}
            database.execute("insert into session_message values (?, ?, ?, ?, ?, 0, ?)", (f"msg_{session}{seq}", session, kind, seq, MS + at * 1000, json.dumps(row)))  # fmt: skip
        database.commit()
    return path
