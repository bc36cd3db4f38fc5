"""Google's embeddings, of AI Studio and Vertex AI: contents in, vectors out. Their calls are recorded; no agent acts by them.

Source: https://ai.google.dev/api/embeddings. Vertex AI has older models at `:predict`, where other models are, too.
"""

from __future__ import annotations

import re
from typing import Any

from .content import text_of

NAME = "gemini.embeddings"
PATHS = (":embedContent", ":batchEmbedContents")
PURPOSES = dict.fromkeys((*PATHS, ":predict"), "embed")
VALUES = ("requests", "content", "instances")
_PATH = re.compile(r"/models/([^/:]+):(?:embedContent|batchEmbedContents)$|/models/([^/:]*embedding[^/:]*):predict$")


def speaks(path: str) -> bool:
    """The paths of embeddings, and `:predict` of a model whose name says that it embeds."""
    return _PATH.search(path) is not None


def model(path: str, request: Any) -> str | None:
    """The model in the path."""
    found = _PATH.search(path)
    return (found[1] or found[2]) if found else None


def messages(request: Any) -> list[dict[str, Any]]:
    """A message of the user for each content that is a text."""
    if not isinstance(request, dict):
        return []
    asked = request.get("requests") or request.get("instances")
    told: list[dict[str, Any]] = []
    for one in asked if isinstance(asked, list) else [request]:
        content = one.get("content") if isinstance(one, dict) else None
        text = text_of(content.get("parts") if isinstance(content, dict) else content)
        if text:
            told.append({"role": "user", "content": text})
    return told


def params(request: Any) -> dict[str, Any]:
    """Everything but the contents."""
    return {k: v for k, v in request.items() if k not in VALUES} if isinstance(request, dict) else {}
