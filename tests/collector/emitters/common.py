"""What the programs of this folder share: an agent of two calls and a tool between them. Each is run with packages of its own:
`python NAME.py MODEL_URL COLLECTOR_URL`."""

from __future__ import annotations

import json
import sys
from typing import Any

MODEL, COLLECTOR = sys.argv[1], sys.argv[2]
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "tide",
        "description": "When it is high tide.",
        "parameters": {"type": "object", "properties": {"port": {"type": "string"}}, "required": ["port"]},
    },
}


def tide(port: str) -> str:
    """When it is high tide."""
    return f"{port}: at noon"


def provider() -> Any:
    """OpenTelemetry's SDK, which sends spans to the collector."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    made = TracerProvider(resource=Resource.create({"service.name": "harbour"}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(COLLECTOR + "/v1/traces")))
    trace.set_tracer_provider(made)
    return made


def agent(client: Any, **more: Any) -> None:
    """Two calls of chat completions, the second one a stream."""
    messages: list[Any] = [{"role": "system", "content": "You know tides."}, {"role": "user", "content": "high tide in Brest?"}]
    said = client.chat.completions.create(model="m", messages=messages, tools=[TOOL], temperature=0.0, **more)
    (call,) = said.choices[0].message.tool_calls
    messages += [
        said.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": tide(**json.loads(call.function.arguments))},
    ]
    told = client.chat.completions.create(
        model="m", messages=messages, tools=[TOOL], stream=True, stream_options={"include_usage": True}, **more
    )
    for _ in told:
        pass
