"""Small stores for the pages' tests, written by hand."""

from __future__ import annotations

import base64
import struct
import time
import zlib
from typing import Any

import odograph

TOOLS = [
    {
        "type": "function",
        "function": {"name": "search", "parameters": {"type": "object", "properties": {"q": {"type": "string"}}}},
    }
]


def png() -> str:
    """A picture of 4 x 4 pixels, as a data URL."""
    raw = b"".join(b"\0" + b"\x33\x66\x99" * 4 for _ in range(4))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts)
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


def attempt(store: odograph.Store, n: int, steps: int = 4) -> str:
    """A run with everything: a picture, contexts, reasoning, tools, an edit, a sub-agent, labels, rewards, token ids."""
    history: list[dict[str, Any]] = [
        {"role": "system", "content": "You are careful."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What fails?"}, {"type": "image_url", "image_url": {"url": png()}}],
        },
    ]
    ids = list(range(100, 108))
    with store.record(
        task=f"find the failure {n}", agent="coder", model="m", group="fix", tags=["demo"], policy_version=n
    ) as run:
        for k in range(steps):
            with run.step() as step:
                step.context("files", {"names": ["a.py"]}, query="tests", purpose="to know where to look")
                tokens = [1000 + 10 * k + i for i in range(6)]
                asked = {"id": f"c{k}", "type": "function", "function": {"name": "search", "arguments": '{"q": "def"}'}}
                call = step.llm_call(
                    model="m",
                    messages=history,
                    response={
                        "role": "assistant",
                        "content": f"I look {n} {k}",
                        "reasoning_content": "because",
                        "tool_calls": [asked],
                    },
                    tools=TOOLS,
                    prompt_token_ids=list(ids),
                    token_ids=tokens,
                    logprobs=[-0.1 * i for i in range(6)],
                    params={"temperature": 1.0},
                    started=time.time_ns(),
                    duration=100_000,
                )
                kept = tokens
                if k == 1:
                    step.edit(call, author="reviewer").delete(2, 4, reason="too long")
                    kept = tokens[:2] + tokens[4:]
                    with step.sub_agent("helper").step() as inner:
                        inner.llm_call(model="small", messages=[{"role": "user", "content": "help"}], response="helped")
                failed = k == 2
                step.action(
                    "search",
                    {"q": "def"},
                    None if failed else f"found {k}",
                    ok=not failed,
                    error="timed out" if failed else None,
                    llm_call=call,
                    tool_call_id=f"c{k}",
                )
                step.reward(0.25 * n, name="progress")
                ids = [*ids, *kept, 7, 8]
                history = [*history, {"role": "assistant", "content": f"I look {n} {k}", "tool_calls": [asked]}]
                history = [*history, {"role": "tool", "tool_call_id": f"c{k}", "content": f"found {k}"}]
        run.label("quality", "good", score=0.8, rationale="it names the cause", author="judge")
        run.finish(f"answer {n}")
    return run.id


BAD = '<script>window.pwned = 1</script><img src=x onerror="window.pwned=2"><svg onload="window.pwned=3"></svg>'
SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' xmlns:xlink='http://www.w3.org/1999/xlink' onload='window.pwned=4'>"
    "<script>window.pwned=5;fetch('http://evil.example/svg')</script><image href='http://evil.example/i.png'/>"
    "<foreignObject><iframe xmlns='http://www.w3.org/1999/xhtml' src='http://evil.example/f'/></foreignObject></svg>"
)


def hostile(store: odograph.Store) -> str:
    """A run of which every text wants to run a script or to reach out."""
    svg = "data:image/svg+xml;base64," + base64.b64encode(SVG.encode()).decode()
    images = [svg, "http://evil.example/pixel.png", "//evil.example/p.png", "javascript:window.pwned=6", f"data:text/html,{BAD}"]
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in images]
    parts += [{"type": "audio_url", "audio_url": {"url": "http://evil.example/a.mp3"}}, {"type": "input_audio", "input_audio": 5}]
    parts += [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav'><script>window.pwned=8</script>"}}]
    parts += [{"type": "video_url", "video_url": [BAD]}, {"type": "file", "file": {"file_data": f"data:text/html,{BAD}"}}]
    markdown = f"![x](http://evil.example/m.png) [go](javascript:window.pwned=7)\n```html\n{BAD}\n```\n\u202egnp.exe"
    with store.record(task=BAD, agent=BAD, model=BAD, group=BAD, tags=[BAD], metadata={BAD: BAD}) as run:
        with run.step(observation=BAD) as step:
            step.context(BAD, {BAD: BAD}, query=BAD, purpose=BAD)
            message = {"role": BAD, "content": [*parts, {"type": "text", "text": BAD}, {"type": BAD, BAD: BAD}]}
            call = step.llm_call(
                model=BAD,
                messages=[{"role": "system", "content": markdown}, message],
                response={"role": "assistant", "content": markdown, "reasoning_content": BAD},
                params={"</script>": BAD},
                tools=[{"type": "function", "function": {"name": BAD}}],
                prompt_token_ids=[1],
                token_ids=[2, 3],
            )
            step.edit(call, author=BAD).replace(0, 1, BAD, reason=BAD)
            step.action(BAD, {BAD: BAD}, BAD, ok=False, error={BAD: BAD}, llm_call=call)
            step.reward(0.5, name=BAD, rationale=BAD)
        run.label(BAD, BAD, rationale=BAD, author=BAD, description=BAD)
        run.note({BAD: [BAD]}, name=BAD)
        run.finish(BAD)
    return run.id
