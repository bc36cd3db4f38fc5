"""OpenInference's instrumentation of the OpenAI SDK."""

from common import MODEL, agent, provider
from openai import OpenAI
from openinference.instrumentation import using_session
from openinference.instrumentation.openai import OpenAIInstrumentor

spans = provider()
OpenAIInstrumentor().instrument(tracer_provider=spans)
with using_session("s-1"):
    agent(OpenAI(base_url=MODEL + "/v1", api_key="k"))
spans.shutdown()
