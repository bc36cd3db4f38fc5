"""What formats of token ids share: the split of a row into prompt and completion, and fillers where nothing is trained.

No exporter itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...codec import content_hash
from ...dialects.content import image_of
from ..sample import Sample, expanded
from . import Made, Refused


class Split(NamedTuple):
    """A row as prompt and completion: the completion begins with the first token that is trained."""

    prompt_ids: list[int]
    completion_ids: list[int]
    mask: list[int]
    #: Of the completion; 0.0 where nothing is trained.
    logprobs: list[float]
    advantages: list[float]


def split(sample: Sample) -> Split:
    """Raises Refused for a row that has no prompt: the first token's logprob would be under nothing."""
    prompted(sample)
    imageless(sample)
    at = sample.prompt_length
    return Split(
        sample.token_ids[:at],
        sample.token_ids[at:],
        sample.mask[at:],
        filled(sample)[at:],
        per_token(sample)[at:],
    )


def prompted(sample: Sample) -> None:
    """Raises Refused for a row that begins with a trained token: no model gives a logprob of it."""
    if sample.mask[0]:
        raise Refused("no prompt before the first trained token")


def imageless(sample: Sample) -> None:
    """Raises Refused for a row with images, where the format has no place for them."""
    if sample.images:
        raise Refused("an image, or another part that is no text, for which the format has no place")


def image_url(part: dict[str, Any]) -> str:
    """Where an image is, or its data. Raises Refused for a part that is no image."""
    image = image_of(part)
    if image is None:
        raise Refused("a part that is neither text nor an image, for which the format has no place")
    return str(image["image_url"]["url"])


def advised(sample: Sample) -> None:
    """Raises Refused for a row without advantages, where the format trains by nothing else."""
    if not sample.advantages:
        raise Refused("no advantages: give advantage=")


def usable(made: Made, *, images: bool = False) -> list[Sample]:
    """The samples of a trajectory for formats that give it one reward; the others are refused, with the reason. `images`: the
    format has a place for images, and for no other part that is no text."""
    out: list[Sample] = []
    for sample in made.samples:
        try:
            prompted(sample)
            unweighted(sample)
            for part in sample.images if images else ():
                image_url(part)
            if sample.reward != made.reward:
                raise Refused("a reward of its own, where the format has one for the trajectory")
        except Refused as why:
            made.refuse(str(why), sample)
        else:
            out.append(sample)
    if not out:
        made.gone = True
    return out


def filled(sample: Sample, filler: float = 0.0) -> list[float]:
    """Logprobs, with the format's filler where nothing is trained. Raises Refused where one is trained and has none."""
    if any(m and p is None for p, m in zip(sample.logprobs, sample.mask, strict=True)):
        raise Refused("a trained token without a logprob")
    return [p if m and p is not None else filler for p, m in zip(sample.logprobs, sample.mask, strict=True)]


def per_token(sample: Sample) -> list[float]:
    """Advantages of all tokens; 0.0 where nothing is trained."""
    return [float(a) for a in expanded(sample.advantages)] if sample.advantages else [0.0] * len(sample.mask)


def unweighted(sample: Sample) -> None:
    """Raises Refused for a row with weights, where the format has no place for them."""
    if any(weight != 1.0 for _, weight in sample.weights):
        raise Refused("weights, for which the format has no place")


def number(name: Any) -> int:
    """The same number for the same name, for formats that count groups: 31 bits of its hash."""
    return int(content_hash(name)[:8], 16) >> 1


def about(sample: Sample) -> dict[str, Any]:
    """Where a row comes from."""
    return {
        "trajectory": sample.trajectory,
        "segment": sample.segment,
        "trajectory_rows": sample.trajectory_rows,
        "trajectory_tokens": sample.trajectory_tokens,
        "group": sample.group,
        "agent": sample.agent,
        "ended": sample.ended,
    }


#: The columns of `about`.
ABOUT: dict[str, Any] = {
    "trajectory": str,
    "segment": int,
    "trajectory_rows": int,
    "trajectory_tokens": int,
    "group": str,
    "agent": str,
    "ended": str,
}
