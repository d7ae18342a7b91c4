"""How long a request waits behind those that an engine itself tells of, where its queue is not ours. Pure."""

KV_FULL = 0.98  # of the KV cache: who comes waits until somebody ends
UNTOLD_S = 1.0  # of a request, where none has ended yet


def behind_s(running: int, waiting: int, kv_used: float | None, total_s: float | None) -> float:
    """`running` requests end one after another, evenly over the `total_s` that each takes; `waiting` go before. `kv_used`: 0 to 1."""
    ahead = waiting + (kv_used is not None and kv_used >= KV_FULL and running > 0)
    return ahead * (UNTOLD_S if total_s is None else total_s) / max(1, running) if ahead else 0.0
