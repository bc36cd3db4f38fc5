"""Imagen, Google's model of pictures: a prompt in, pictures out. Its calls are recorded, and no agent acts by them.

Source: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/imagen-api.
"""

from __future__ import annotations

import re
from typing import Any

NAME = "gemini.images"
PATHS = (":predict",)
PURPOSES = {":predict": "image"}
VALUES = ("instances",)
_PATH = re.compile(r"/models/([^/:]*(?:imagen|image)[^/:]*):predict$")


def speaks(path: str) -> bool:
    """`:predict` of a model whose name says that it makes pictures."""
    return _PATH.search(path) is not None


def model(path: str, request: Any) -> str | None:
    """The model in the path."""
    found = _PATH.search(path)
    return found[1] if found else None


def messages(request: Any) -> list[dict[str, Any]]:
    """Each prompt as a message of the user."""
    asked = request.get("instances") if isinstance(request, dict) else None
    prompts = [one.get("prompt") for one in asked if isinstance(one, dict)] if isinstance(asked, list) else []
    return [{"role": "user", "content": prompt} for prompt in prompts if isinstance(prompt, str)]


def params(request: Any) -> dict[str, Any]:
    """The parameters."""
    found = request.get("parameters") if isinstance(request, dict) else None
    return dict(found) if isinstance(found, dict) else {}
