"""Token lineage: which token of a context was sampled where, edited by whom, and whether it still stands as it was sampled."""

from __future__ import annotations

from .chain import Chain
from .cuts import cut_out
from .edits import edited_text
from .nodes import Node, Thread
from .observed import CLASSES, Kind
from .policies import chains
from .texts import Tokenizer, tokenizer
from .view import Segment, Source, Standing, View

__all__ = [
    "CLASSES",
    "Chain",
    "Kind",
    "Node",
    "Segment",
    "Source",
    "Standing",
    "Thread",
    "Tokenizer",
    "View",
    "chains",
    "cut_out",
    "edited_text",
    "tokenizer",
]
