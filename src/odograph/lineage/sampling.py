"""How a call sampled, and whether who trains can compute its logprobs again. Knows requests; no lineage, no trainer."""

from __future__ import annotations

from typing import Any

from ..trajectory import Call


def parameters(call: Call) -> dict[str, Any]:
    """The sampling parameters of a call, those too that its backend takes in an object of their own."""
    params = call.params
    apart = params.get("sampling_params")
    return {**params, **apart} if isinstance(apart, dict) else params


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def temperature(call: Call) -> float | None:
    """The temperature that was asked for; None where the request names none."""
    return _number(parameters(call).get("temperature"))


def truncation(call: Call) -> list[str]:
    """What cut tokens off before one was sampled: top_p below 1, top_k of at least 1, min_p above 0, typical_p below 1."""
    params = parameters(call)
    found = {name: _number(params.get(name)) for name in ("top_p", "top_k", "min_p", "typical_p")}
    cuts = {
        name: value >= 1 if name == "top_k" else value > 0 if name == "min_p" else value < 1
        for name, value in found.items()
        if value is not None
    }
    return [f"{name} {found[name]:g}" for name, cut in cuts.items() if cut]


def not_computable(call: Call) -> str | None:
    """Why the model's own distribution does not give the logprobs that were recorded; None where it does, or nothing is known.

    Raw logprobs are those of temperature 1. Sampled ones are those after the temperature, which a trainer applies, and after
    truncation, which no trainer applies.
    """
    meaning, heat, cut = call.logprobs_of, temperature(call), truncation(call)
    if meaning == "raw" and heat is not None and heat != 1.0:
        return f"raw logprobs at temperature {heat:g}"
    if meaning == "sampled" and cut:
        return f"logprobs after {' and '.join(cut)}"
    return None
