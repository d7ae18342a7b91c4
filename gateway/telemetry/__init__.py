"""Traces: W3C trace context through the gateway, and OpenTelemetry spans made of ledger rows once a request is over."""
