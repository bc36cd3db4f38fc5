"""The keywords of `store.export` and `odograph.rows`, for type checkers: filters, options of samples, options of our formats."""

from __future__ import annotations

from typing import TypedDict

from ..store.filters import FilterArgs
from .plan import RowOptions, SampleOptions


class _FormatOptions(TypedDict, total=False):
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


class ExportArgs(FilterArgs, RowOptions, _FormatOptions, total=False):
    """The keywords of `store.export`. `agent` and `model` are filters; in `options=` the same names choose the policy that is
    trained. Options of other formats, which a checker can't know, go into `options=` too."""


class RowsArgs(SampleOptions, _FormatOptions, total=False):
    """The keywords of `odograph.rows`. Options of other formats, which a checker can't know, go into `options=`."""
