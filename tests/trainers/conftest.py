"""Trainers that don't go together in one process, made to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from transformers import masking_utils

_OWN = masking_utils._preprocess_mask_arguments


def _restore() -> None:
    """Importing ART puts its own in place of it, which the transformers of today can't call: TRL would not train any more."""
    masking_utils._preprocess_mask_arguments = _OWN


@pytest.fixture(scope="session", autouse=True)
def _after_collection() -> None:
    _restore()


@pytest.fixture(autouse=True)
def _after_each() -> Iterator[None]:
    yield
    _restore()
