"""The keywords of `store.export`, for type checkers: filters, options of samples, and options of Odograph's own formats."""

from __future__ import annotations

from ..store.filters import FilterArgs
from .plan import RowOptions


class ExportArgs(FilterArgs, RowOptions, total=False):
    """The keywords of `store.export`. `agent` and `model` are filters; in `options=` the same names choose the policy that is
    trained. Options of other formats, which a checker can't know, go into `options=` too."""

    # of one format, or a few: see docs/exports.md
    ability: str
    by: str
    data_source: str
    env_name: str | None
    events: bool
    harness: str
    include_metadata: bool
    last_only: bool
    license: str
    reference: str | None
    service: str
    style: str
    temperature: float
    threshold: float
