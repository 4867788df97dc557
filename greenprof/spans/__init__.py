"""OpenTelemetry spans around every awaited operation that sync code hands over a bridge.

`greenprof.spans.tracing` has what programs use; `awaits` sees the switches, `span` is what is
current while an operation is awaited, `sinks` hands finished spans to the tracer provider.
"""
