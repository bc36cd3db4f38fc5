"""OpenAI's embeddings: texts in, vectors out. Their calls are recorded, and no agent acts by them.

Source: https://platform.openai.com/docs/api-reference/embeddings.
"""

from __future__ import annotations

from typing import Any

NAME = "openai.embeddings"
PATHS = ("/v1/embeddings", "/embeddings")
PURPOSES = {"/embeddings": "embed"}
VALUES = ("input",)


def messages(request: Any) -> list[dict[str, Any]]:
    """A message of the user for each text."""
    given = request.get("input") if isinstance(request, dict) else None
    texts = given if isinstance(given, list) else [given]
    return [{"role": "user", "content": text} for text in texts if isinstance(text, str)]


def params(request: Any) -> dict[str, Any]:
    """Everything but model and input."""
    return {k: v for k, v in request.items() if k not in ("model", "input")} if isinstance(request, dict) else {}


def is_response(response: Any) -> bool:
    """A list of embeddings."""
    found = response.get("data") if isinstance(response, dict) else None
    return isinstance(found, list) and bool(found) and all(isinstance(d, dict) and "embedding" in d for d in found)
