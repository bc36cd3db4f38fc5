"""OTLP over gRPC, for emitters that speak nothing else: the same messages, the same collector."""

from __future__ import annotations

import asyncio
from typing import Any

from ..access import Access
from ..errors import MissingExtra, StoreError
from . import protobuf
from .collecting import Collector
from .receiver import LARGEST, sorted_out, without_ids


async def listen(collector: Collector, address: str, token: str | None) -> tuple[Any, int]:
    """A gRPC server that runs. Raises MissingExtra, StoreError."""
    try:
        import grpc
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
    except ImportError:
        raise MissingExtra("OTLP over gRPC", "grpc") from None
    access = Access.of("127.0.0.1", 0, token=token)

    async def take(signal: str, request: Any, context: Any, answer: Any) -> Any:
        given = dict(context.invocation_metadata())
        if token is not None and access.right(str(given.get("authorization", "")).removeprefix("Bearer ")) is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a token is needed, as metadata `authorization: Bearer TOKEN`")
        spans, rejected = await asyncio.to_thread(lambda: sorted_out(protobuf.plain(signal, request)))
        try:
            await asyncio.to_thread(collector.put, spans)
        except StoreError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        if rejected:
            collector.counts["rejected"] += rejected
            answer.partial_success.rejected_spans = rejected
            answer.partial_success.error_message = without_ids(rejected)
        return answer

    class Traces(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc]
        async def Export(self, request: Any, context: Any) -> Any:
            return await take("traces", request, context, trace_service_pb2.ExportTraceServiceResponse())

    class Logs(logs_service_pb2_grpc.LogsServiceServicer):  # type: ignore[misc]
        async def Export(self, request: Any, context: Any) -> Any:
            return await take("logs", request, context, logs_service_pb2.ExportLogsServiceResponse())

    class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):  # type: ignore[misc]
        async def Export(self, request: Any, context: Any) -> Any:
            return metrics_service_pb2.ExportMetricsServiceResponse()

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", LARGEST), ("grpc.so_reuseport", 0)])
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(), server)
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(Logs(), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise StoreError(f"{address} can't be listened at: {error}") from None
    await server.start()
    return server, port
