"""Images, audio, video and files in messages: each dialect says them in its own words, and everything that reads messages knows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import odograph
from odograph import dialects
from odograph.dialects.content import is_media
from odograph.worlds import prompting
from odograph.worlds.sessions import session_of

DATA = "UklGRg" * 50  # base64
PDF = f"data:application/pdf;base64,{DATA}"
SAID: Any = {"openai.chat": {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}]},
             "openai.responses": {"object": "response", "status": "completed", "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]}]},
             "anthropic.messages": {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn"},
             "gemini": {"candidates": [{"content": {"role": "model", "parts": [{"text": "ok"}]}, "finishReason": "STOP"}]},
             "bedrock.converse": {"output": {"message": {"role": "assistant", "content": [{"text": "ok"}]}}, "stopReason": "end_turn"}}  # fmt: skip
ASKED: Any = {
    "openai.chat": [{"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}, {"type": "file", "file": {"file_data": PDF}}],
    "openai.responses": [{"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}, {"type": "input_file", "file_data": PDF}],
    "anthropic.messages": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}},
                           {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": DATA}}],
    "gemini": [{"inlineData": {"mimeType": "audio/wav", "data": DATA}}, {"inline_data": {"mime_type": "application/pdf", "data": DATA}}],
    "bedrock.converse": [{"audio": {"format": "wav", "source": {"bytes": DATA}}}, {"document": {"format": "pdf", "name": "d", "source": {"bytes": DATA}}}],
}  # fmt: skip


def request(name: str) -> Any:
    """A request of a dialect with two parts that are no text."""
    if name == "gemini":
        return {"contents": [{"role": "user", "parts": ASKED[name]}]}
    return {"model": "m", "input" if name == "openai.responses" else "messages": [{"role": "user", "content": ASKED[name]}]}


@pytest.mark.parametrize("name", ASKED)
def test_what_is_no_text_is_never_taken_for_text(name: str, tmp_path: Path) -> None:
    """Its bytes are hashed for the lineage, are in no text that a trainer or a judge reads, and are kept where there is a place."""
    with odograph.open("memory:") as store:
        with store.record(task="listen", agent="a", model="m") as run:
            run.step().llm_call(dialect=name, request=request(name), response=SAID[name])
            run.reward(1.0)
        t = store.trajectory(run.id)
        (message,) = t.llm_calls[0].messages
        assert [is_media(part) for part in message["content"]] == [True, True] and t.llm_calls[0].request == request(name)
        for to in ("hf", "hf-traces", "llama-factory", "unsloth", "openrlhf", "nemo-rl", "ms-swift"):
            manifest = store.export(tmp_path / to, to, **({"format": "jsonl"} if to == "hf" else {}))
            text = "".join(path.read_text() for path in (tmp_path / to / "data").iterdir())
            assert DATA not in text and manifest["left_out"], to
        store.export(tmp_path / "openai", "openai")
        row = json.loads((tmp_path / "openai" / "data" / "train.jsonl").read_text())
        assert [p["type"] for p in row["messages"][0]["content"]][1] == "file" and json.dumps(row).count(DATA) == 2
        assert not any(DATA in line for line in prompting.session_of(session_of(t).turns_json).lines)
        assert DATA in json.dumps(dialects.get("gemini").history([message]))  # a fork to another model sends them on


def test_what_a_model_spoke_or_drew_is_its_transcript(tmp_path: Path) -> None:
    """A spoken answer is its transcript, also where the next prompt names it by id alone; audio alone trains nothing, with the reason."""
    spoken = {"role": "assistant", "content": None, "audio": {"id": "audio_1", "data": DATA, "transcript": "Hello."}}
    user = {"role": "user", "content": "again"}
    with odograph.open("memory:") as store:
        with store.record(task="speak", agent="a", model="m") as run:
            asked: list[Any] = [{"role": "user", "content": "hi"}]
            run.step().llm_call(messages=asked, response={"choices": [{"index": 0, "message": spoken, "finish_reason": "stop"}]})
            asked = [*asked, {"role": "assistant", "audio": {"id": "audio_1"}}, user]
            run.step().llm_call(messages=asked, response=SAID["openai.chat"])
            run.reward(1.0)
        with store.record(task="draw", agent="a", model="m") as drawn:
            image = {"content": {"role": "model", "parts": [{"inlineData": {"mimeType": "image/png", "data": DATA}}]}}
            drawn.step().llm_call(dialect="gemini", request=request("gemini"), response={"candidates": [image]})
            drawn.reward(1.0)
        manifest = store.export(tmp_path / "o", "openai")
        (row,) = map(json.loads, (tmp_path / "o" / "data" / "train.jsonl").read_text().splitlines())
        assert [m["content"] for m in row["messages"]] == ["hi", "Hello.", "again", "ok"]
        assert manifest["left_out"] == {"an answer without text or tool call": 1}
        found = odograph.validate(store)
        assert [f.code for f in [*found.errors, *found.warnings]] == []


def test_the_screen_of_a_computer_is_an_image() -> None:
    """The Responses API's computer: its calls are tool calls, its screenshots images of their results, not text."""
    use = {"type": "computer_call", "call_id": "c", "action": {"type": "click", "x": 1}}
    shot = {"type": "computer_screenshot", "image_url": f"data:image/png;base64,{DATA}"}
    one = dialects.get("openai.responses")
    (choice,) = one.choices({"output": [use], "status": "completed"})
    assert [(c.id, c.name, c.arguments) for c in choice.tool_calls] == [("c", "computer", use["action"])]
    call, result = one.messages({"input": [use, {"type": "computer_call_output", "call_id": "c", "output": shot}]})
    assert call["tool_calls"][0]["id"] == result["tool_call_id"] == "c" and is_media(result["content"][0])
    assert dialects.get("anthropic.messages").history([result])[-1]["content"][-1]["source"]["data"] == DATA
