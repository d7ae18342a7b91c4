"""What the gateway tells of itself to whoever watches it: metrics, and (gateway/telemetry) traces."""
