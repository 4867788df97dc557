"""A span for each request and each view, by OpenTelemetry's API: without a tracer provider they are nothing.

The awaits below them are greenprof's to tell.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from opentelemetry import trace
from opentelemetry.trace import SpanKind

tracer = trace.get_tracer("food_delivery")


def span_of_request(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """A middleware, the outermost."""

    def answered(request: HttpRequest) -> HttpResponseBase:
        with tracer.start_as_current_span(str(request.method), kind=SpanKind.SERVER) as span:
            response = get_response(request)
            if request.resolver_match is not None:
                span.update_name(f"{request.method} /{request.resolver_match.route}")
            span.set_attribute("http.response.status_code", response.status_code)
            return response

    return answered


def span_of_view(view: Callable[..., Any]) -> Callable[..., Any]:
    """The view, in a span with its name."""

    @wraps(view)
    def seen(*args: Any, **options: Any) -> Any:
        with tracer.start_as_current_span(view.__name__):
            return view(*args, **options)

    return seen
