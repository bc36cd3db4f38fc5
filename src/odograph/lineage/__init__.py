"""Token lineage: which token of a context was sampled where, edited by whom, and whether it still stands as it was sampled."""

from __future__ import annotations

from .chain import CLASSES, Chain, Kind, Node, chains
from .texts import Tokenizer, tokenizer
from .view import Segment, Source, Standing, View

__all__ = ["CLASSES", "Chain", "Kind", "Node", "Segment", "Source", "Standing", "Tokenizer", "View", "chains", "tokenizer"]
