"""greenprof as an OpenTelemetry instrumentor, for `opentelemetry-instrument` and for code.

The command turns it on by its entry point, with what the environment says:

    GREENPROF_MIN_DURATION=0.005 opentelemetry-instrument python app.py

and OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=greenprof leaves it out.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Collection
from typing import Any

from greenprof.errors import OptionError
from greenprof.spans.tracing import Tracing

try:
    # Its file says that type checkers are to look away.
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "GreenprofInstrumentor needs opentelemetry-instrumentation:"
        " pip install 'greenprof[instrumentor]'",
        name=missing.name,
    ) from missing

__all__ = ["GreenprofInstrumentor"]

_log = logging.getLogger("greenprof")

_OPTIONS = inspect.signature(Tracing).parameters
_SWITCHED = {"true": True, "1": True, "false": False, "0": False}


class GreenprofInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Traces the whole process: `greenprof.trace()` that other tools can turn on.

    `instrument()` takes the options of `greenprof.Tracing`, `tracer_provider` and `meter_provider`
    among them, and raises OptionError for a value that makes no sense. What is not given is
    taken from the environment, seconds as numbers:

    ``GREENPROF_MIN_DURATION``, ``GREENPROF_STACK``, ``GREENPROF_SLOW_DURATION``,
    ``GREENPROF_MAX_SPANS_PER_SECOND``, ``GREENPROF_METRICS`` (true or false).

    A value there that makes no sense is logged, and the default counts.
    """

    _tracing: Tracing | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: bridges are seen when the program imports them, whichever those are."""
        return ()

    def _instrument(self, **options: Any) -> None:
        strange = [name for name in options if name not in _OPTIONS]
        if strange:
            _log.warning(
                "GreenprofInstrumentor ignores %s: its options are %s",
                ", ".join(strange),
                ", ".join(_OPTIONS),
            )
        given = {name: value for name, value in options.items() if name in _OPTIONS}
        chosen = {**_from_environment(), **given}
        if chosen.get("metrics") is False:
            # Tools that set up all instrumentors alike give each one a meter provider.
            chosen.pop("meter_provider", None)
        self._tracing = Tracing(**chosen).start()

    def _uninstrument(self, **_options: Any) -> None:
        tracing, self._tracing = self._tracing, None
        if tracing is not None and tracing.running:
            tracing.stop()


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # Tracing says what is wrong with it


def _switched(text: str) -> bool:
    found = _SWITCHED.get(text.lower())
    if found is None:
        raise OptionError(f"metrics is {text!r}: give true or false")
    return found


_VARIABLES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "GREENPROF_MIN_DURATION": ("min_duration", _number),
    "GREENPROF_STACK": ("stack", str),
    "GREENPROF_SLOW_DURATION": ("slow_duration", _number),
    "GREENPROF_MAX_SPANS_PER_SECOND": ("max_spans_per_second", _number),
    "GREENPROF_METRICS": ("metrics", _switched),
}


def _from_environment() -> dict[str, Any]:
    """The options that the environment gives; an empty variable is none, as in all OTEL_* ones."""
    options: dict[str, Any] = {}
    for variable, (option, read) in _VARIABLES.items():
        text = os.environ.get(variable, "").strip()
        if not text:
            continue
        try:
            value = read(text)
            Tracing(**{option: value})
        except OptionError as error:
            default = _OPTIONS[option].default
            _log.warning("%s: %s; it is left at %r", variable, error, default)
        else:
            options[option] = value
    return options
