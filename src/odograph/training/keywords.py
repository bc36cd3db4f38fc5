"""The keywords of `store.export`, for type checkers: filters, options of samples, and options of Odograph's own formats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..lineage import Node
from ..store.filters import FilterArgs
from .plan import Scorer


class ExportArgs(FilterArgs, total=False):
    """The keywords of `store.export`. `agent` and `model` are filters; in `options=` the same names choose the policy that is
    trained. Options of other formats, which a checker can't know, go into `options=` too."""

    # of samples: see `odograph.samples`
    edits: str | dict[str, str] | Callable[[Node], str]
    advantage: str | None
    purpose: str | tuple[str, ...] | list[str]
    reward: str | None
    credit: str
    discount: float
    max_tokens: int | None
    too_long: str
    logprobs: bool
    include_failed: bool
    tokenizer: Any
    scorer: Scorer | None
    cap: float
    # of one format, or a few: see docs/exports.md
    ability: str
    by: str
    data_source: str
    env_name: str | None
    harness: str
    include_metadata: bool
    license: str
    temperature: float
    threshold: float
