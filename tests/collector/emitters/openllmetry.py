"""openllmetry's instrumentation of the OpenAI SDK."""

from common import MODEL, agent, provider
from openai import OpenAI
from opentelemetry.instrumentation.openai import OpenAIInstrumentor

spans = provider()
OpenAIInstrumentor().instrument(tracer_provider=spans)
with spans.get_tracer("harbour").start_as_current_span("run"):
    agent(OpenAI(base_url=MODEL + "/v1", api_key="k"))
spans.shutdown()
