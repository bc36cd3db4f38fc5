"""Who labels, and how: the settings that a labelling takes as a resource. Knows `Judge`, no row and no prompt."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..asking.budget import Budget
from ..asking.client import Judge
from ..bulk import Progress
from ..errors import InvalidInput, check_count
from .verdicts import REDUCERS

_LONG = ("middle", "segments", "summary", "refuse")
_ORDERS = ("auto", "rubric", "session")
_MOST_TOKENS = {"openai.responses": "max_output_tokens", "anthropic.messages": "max_tokens"}


@dataclass
class LabelingConfig:
    """Who labels, and how.

    `model`, `base_url` (else $OPENAI_BASE_URL), `api_key` (else $OPENAI_API_KEY), `dialect`, `params`, `max_concurrency`,
    `max_retries`, `max_asks`, `timeout`, `context`, `prices`, `budget`, `batch` and `batch_poll` are those of `odograph.Judge`;
    `judges` are several in the place of one, and `repeats` is how often each is asked. `max_output_tokens` limits an answer, and
    goes out under the dialect's own name (`max_completion_tokens` on chat completions).

    `prompt`: a file with the prompt's text. `order`: what comes first in the built-in prompt, and so what a provider's prompt
    cache can share: the `rubric` (many sessions, one technique), the `session` (many techniques, one session), or `auto`,
    which takes what shares more. `evidence`: whether the judge is asked for quotes, which must occur in the turns that they name.

    `long`: what becomes of a session that `context` (tokens) has no room for: its `middle` is cut, it is labelled in `segments`
    that `reducer` brings together (majority, any, all, union), a `summary` of its segments is labelled, or it is refused
    (status over_context). `label__omitted` says how many turns the judge did not see whole.

    `runner`: "ray" asks from `workers` actors of a Ray cluster (0: one for each CPU), which divide bounds and budget and share
    the store's journal of answers; all machines see the store under the same path.
    """

    model: str = "gpt-5-mini"
    max_output_tokens: int = 512
    base_url: str | None = None
    api_key: str | None = None
    dialect: str = "openai.chat"
    params: dict[str, Any] = field(default_factory=dict)
    max_concurrency: int = 64
    batch: bool = False
    batch_poll: float = 30.0
    max_retries: int = 4
    max_asks: int = 1
    timeout: float = 300.0
    context: int | None = None
    prices: tuple[float, float] | None = None
    budget: Budget | None = None
    judges: Sequence[Judge] = ()
    repeats: int = 1
    prompt: str | Path | None = None
    order: str = "auto"
    evidence: bool = False
    long: str = "middle"
    reducer: str = "majority"
    progress: Progress = None
    runner: str = "local"
    workers: int = 0

    def __post_init__(self) -> None:
        for name, least in (("max_output_tokens", 1), ("repeats", 1)):
            check_count(name, getattr(self, name), least)
        for name, known in (("order", _ORDERS), ("long", _LONG), ("reducer", tuple(REDUCERS))):
            if getattr(self, name) not in known:
                raise InvalidInput(f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.runner not in ("local", "ray"):
            raise InvalidInput(f"runner is local or ray, not {self.runner!r}")
        check_count("workers", self.workers, 0)
        if not isinstance(self.params, dict):
            raise InvalidInput(f"params is a dict of request fields, not {self.params!r:.100}")
        for judge in self.judges:
            if not isinstance(judge, Judge):
                raise TypeError(f"judges are odograph.Judge objects, not {type(judge).__name__}")

    def __deepcopy__(self, memo: dict[int, Any]) -> LabelingConfig:
        """A fork's copy: it has its own settings, and shares judges and their budget, which stays one ceiling."""
        other = copy.copy(self)
        other.params = copy.deepcopy(self.params, memo)
        return other

    def made_judges(self) -> list[Judge]:
        """The judges. Raises InvalidInput for settings that no judge can have."""
        if self.judges:
            return list(self.judges)
        limit = _MOST_TOKENS.get(self.dialect, "max_completion_tokens")
        return [
            Judge(
                self.model,
                self.base_url,
                api_key=self.api_key,
                dialect=self.dialect,
                params={limit: self.max_output_tokens, **self.params},
                max_concurrency=self.max_concurrency,
                batch=self.batch,
                batch_poll=self.batch_poll,
                max_retries=self.max_retries,
                max_asks=self.max_asks,
                timeout=self.timeout,
                context=self.context,
                budget=self.budget,
                prices=self.prices,
            )
        ]
