"""The flags of `view` and `serve` by which people label in the browser."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..api import Store
from .common import filters_of, goes_with
from .numbers import whole, within

if TYPE_CHECKING:
    from ..viewer.labelling import Labelling


def add_labelling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--label", metavar="RUBRIC", help="label by this rubric file in the browser; several people may")
    parser.add_argument("--sample", type=within(1), metavar="N", help="label only N of the trajectories that the filters choose")
    parser.add_argument("--seed", type=whole, metavar="N", help="seed of the sample")


def labelling_of(args: argparse.Namespace, store: Store) -> Labelling | None:
    """The queues of the rubric that the command line names. Raises InvalidInput, NotFound."""
    goes_with(args, "--label", "--sample", "--seed")
    if args.label is None:
        return None
    from ..viewer.labelling import Labelling
    from ..worlds.rubrics import Rubric

    rubric = Rubric.read(args.label)
    args.where = [*rubric.where, *args.where]
    return Labelling(store, rubric, sample=args.sample, seed=args.seed, base=filters_of(args))
