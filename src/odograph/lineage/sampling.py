"""How a call sampled, and whether who trains can compute its logprobs again. Knows requests; no lineage, no trainer."""

from __future__ import annotations

from typing import Any

from ..calls import Call


def parameters(call: Call) -> dict[str, Any]:
    """The sampling parameters of a call, those too that its backend takes in an object of their own."""
    params = call.params
    apart = [found for name in ("extra_body", "sampling_params") if isinstance(found := params.get(name), dict)]
    return {**params, **{name: value for found in apart for name, value in found.items()}} if apart else params


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def temperature(call: Call) -> float | None:
    """The temperature that was asked for; None where the request names none."""
    return _number(parameters(call).get("temperature"))


#: The value at which a parameter leaves the model's own distribution as it is.
_NEUTRAL = {
    "top_p": 1.0,
    "typical_p": 1.0,
    "min_p": 0.0,
    "top_a": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


def truncation(call: Call) -> list[str]:
    """What made another distribution of the model's own before a token was sampled, temperature aside: top_p, top_k, min_p,
    top_a and typical_p, penalties, and a bias of single tokens."""
    params = parameters(call)
    found = {name: value for name in (*_NEUTRAL, "top_k") if (value := _number(params.get(name))) is not None}
    cuts = [f"{name} {value:g}" for name, value in found.items() if (value >= 1 if name == "top_k" else value != _NEUTRAL[name])]
    return [*cuts, "logit_bias"] if params.get("logit_bias") else cuts


def not_computable(call: Call) -> str | None:
    """Why the model's own distribution does not give the logprobs that were recorded; None where it does, or nothing is known.

    Raw logprobs are those of temperature 1. Sampled ones are those after the temperature, which a trainer applies unless the
    temperature is 0, and after truncation, penalties and biases, which no trainer applies.
    """
    meaning, heat, cut = call.logprobs_of, temperature(call), truncation(call)
    if meaning == "raw" and heat is not None and heat != 1.0:
        return f"raw logprobs at temperature {heat:g}"
    if meaning == "sampled" and heat == 0.0:
        return "logprobs at temperature 0"
    if meaning == "sampled" and cut:
        return f"logprobs after {' and '.join(cut)}"
    return None
