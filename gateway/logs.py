"""Logging: structlog to stderr, one line an event; secrets are taken out by one processor."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

_SECRET = re.compile(r"(sk-[A-Za-z0-9_-]{8,}|Bearer\s+\S+|gsk_\w{8,}|xai-\w{8,}|AIza[\w-]{20,})")


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Replaces what looks like a key in any text of the event."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _SECRET.sub("[redacted]", value)
    return event


def configure(level: int = logging.INFO, worker: int | None = None) -> None:
    """Sets up structlog and lets the standard library's loggers (uvicorn's among them) through at warning level. Lines name the worker, if any."""

    def named(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        return event if worker is None else {"worker": worker, **event}

    structlog.configure(
        processors=[
            named,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            redact,
            structlog.dev.ConsoleRenderer(colors=False) if sys.stderr.isatty() else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    who = "" if worker is None else f"worker={worker} "
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format=f"%(levelname)s {who}%(name)s %(message)s")
