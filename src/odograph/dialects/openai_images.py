"""OpenAI's images: a prompt in, pictures out. Their calls are recorded, and no agent acts by them.

Source: https://platform.openai.com/docs/api-reference/images. Edits and variations send forms, which are
kept as bytes.
"""

from __future__ import annotations

from typing import Any

NAME = "openai.images"
PATHS = ("/images/generations", "/images/edits", "/images/variations")
PURPOSES = dict.fromkeys(PATHS, "image")


def messages(request: Any) -> list[dict[str, Any]]:
    """The prompt as a message of the user."""
    prompt = request.get("prompt") if isinstance(request, dict) else None
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else []


def params(request: Any) -> dict[str, Any]:
    """Everything but model and prompt."""
    return {k: v for k, v in request.items() if k not in ("model", "prompt")} if isinstance(request, dict) else {}


def is_response(response: Any) -> bool:
    """A list of pictures."""
    found = response.get("data") if isinstance(response, dict) else None
    return isinstance(found, list) and bool(found) and all(isinstance(d, dict) and ("b64_json" in d or "url" in d) for d in found)
