"""The one table of the gateway's own metrics: name, kind, labels, help. docs/metrics.md lists the same, and a test holds them to each other.

Base units, `_total` for what only grows. No label has a value of a client's making: `model` is the entry of `models` that matched, `target` the
provider or engine, `team` a configured one. Keys, users and request ids are no labels; a request's id stands in exemplars.
"""

from typing import Literal, NamedTuple

from ledger.prices import NUSD_PER_USD

Kind = Literal["counter", "gauge", "histogram"]
# how what several processes tell of one thing comes together; one: whoever is asked knows it for all
Together = Literal["sum", "max", "one"]

USD = 1 / NUSD_PER_USD  # money is counted in integer nano-dollars
US = 1e-6
DIGITS = 9  # after the point, of what is scaled: 500 US dollars are not 500.00000000000006

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
BETWEEN_TOKENS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)
OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)


class Family(NamedTuple):
    """`scale`: from what is counted to the unit of the name. `buckets`: a histogram's upper bounds."""

    kind: Kind
    labels: tuple[str, ...]
    help: str
    scale: float = 1
    together: Together = "sum"
    buckets: tuple[float, ...] = ()

    def scaled(self, value: float) -> float:
        """In the unit of the name."""
        return value if self.scale == 1 else round(value * self.scale, DIGITS)


_ENGINE = ("engine",)
_BUDGET = ("scope", "name", "window")
_OF_TARGET = ("model", "target", "team")

FAMILIES: dict[str, Family] = {
    # --- requests: one for each that came ------------------------------------------------------------------------------
    "turnout_requests_total": Family(
        "counter", ("endpoint", "model", "policy", "team", "status", "outcome"), "Requests that ended, by the status that their clients got."
    ),
    "turnout_request_duration_seconds": Family(
        "histogram", ("endpoint", "model", "stream"), "From a request's head to its answer's end.", buckets=SECONDS
    ),
    "turnout_slo_requests_total": Family("counter", ("model", "policy", "met"), "Requests whose policy has an SLO, by whether it was kept."),
    "turnout_cache_requests_total": Family("counter", ("model", "team", "result"), "Requests whose policy keeps answers, by what was found."),
    "turnout_cache_saved_usd_total": Family("counter", ("model", "team"), "What kept answers cost when they were made.", USD),
    # --- attempts: one for each row of the ledger ----------------------------------------------------------------------
    "turnout_attempts_total": Family(
        "counter", ("endpoint", "model", "target", "policy", "team", "status"), "Rows of the ledger: attempts, and requests that got none."
    ),
    "turnout_attempt_errors_total": Family("counter", ("target", "code"), "Attempts that did not end well, by the error's code."),
    "turnout_attempt_duration_seconds": Family(
        "histogram", ("endpoint", "model", "target"), "Whole answers, from the attempt's start to its end.", buckets=SECONDS
    ),
    "turnout_time_to_first_token_seconds": Family(
        "histogram", ("endpoint", "model", "target"), "Streams that were answered, from the request's head to the first output.", buckets=SECONDS
    ),
    "turnout_inter_token_latency_seconds": Family(
        "histogram", ("model", "target"), "A whole stream's mean time between two tokens.", buckets=BETWEEN_TOKENS
    ),
    "turnout_engine_queue_seconds": Family("histogram", ("target",), "Waiting in the queue before an owned engine.", buckets=SECONDS),
    "turnout_gateway_overhead_seconds": Family(
        "histogram", ("endpoint",), "What the gateway itself took of the time to the first output.", buckets=OVERHEAD
    ),
    "turnout_tokens_total": Family("counter", (*_OF_TARGET, "type"), "Tokens in disjoint classes."),
    "turnout_cost_usd_total": Family("counter", (*_OF_TARGET, "billed"), "What attempts cost, by who bears it.", USD),
    "turnout_unpriced_attempts_total": Family("counter", ("model", "target"), "Attempts that cost something that is not known."),
    "turnout_engine_cost_usd_total": Family("counter", _OF_TARGET, "What attempts' share of an owned engine's time comes to.", USD),
    "turnout_engine_busy_seconds_total": Family("counter", ("target", "phase"), "An owned engine's time that went to attempts.", US),
    # --- now -----------------------------------------------------------------------------------------------------------
    "turnout_attempts_in_flight": Family("gauge", ("target",), "Attempts that run."),
    "turnout_target_breaker_open": Family("gauge", ("target", "model_sent"), "1 while its breaker keeps requests from it.", together="max"),
    "turnout_budget_limit_usd": Family("gauge", _BUDGET, "A team's or organisation's budget.", USD, "one"),
    "turnout_budget_spent_usd": Family("gauge", _BUDGET, "What is spent of it in the present window.", USD, "one"),
    "turnout_budget_reserved_usd": Family("gauge", _BUDGET, "The upper bound of what runs.", USD, "one"),
    "turnout_ledger_pending_rows": Family("gauge", (), "Rows that wait to be written, in memory or put aside on the disk."),
    "turnout_ledger_dropped_rows_total": Family("counter", (), "Rows lost."),
    "turnout_ledger_failing": Family("gauge", (), "1 while the database does not take rows.", together="max"),
    "turnout_redis_up": Family("gauge", (), "1 while the Redis of `state.redis` answers; absent without one.", together="one"),
    # --- engines: ours, and those behind a provider's `metrics` --------------------------------------------------------
    "turnout_engine_state": Family("gauge", (*_ENGINE, "state"), "1 for the state that an owned engine is in.", together="one"),
    "turnout_engine_restarts_total": Family("counter", _ENGINE, "Children that were started after the first.", together="one"),
    "turnout_engine_requests_running": Family("gauge", _ENGINE, "Requests that it computes.", together="one"),
    "turnout_engine_requests_waiting": Family("gauge", _ENGINE, "Requests that wait in it.", together="one"),
    "turnout_engine_wait_seconds": Family("gauge", _ENGINE, "How long who comes now is expected to wait before it.", together="one"),
    "turnout_engine_kv_cache_usage_ratio": Family("gauge", _ENGINE, "Of its KV cache, what is in use.", together="one"),
    "turnout_engine_prefix_hit_ratio": Family("gauge", _ENGINE, "Of its prompts' tokens, what it had read before.", together="one"),
    "turnout_engine_tokens_per_second": Family("gauge", _ENGINE, "Tokens that it makes.", together="one"),
    "turnout_engine_prompt_tokens_per_second": Family("gauge", _ENGINE, "Tokens that it reads.", together="one"),
    # --- the processes -------------------------------------------------------------------------------------------------
    "turnout_processes": Family("gauge", (), "Processes that serve and were heard."),
    "turnout_cpu_seconds_total": Family("counter", (), "CPU time of the processes that serve."),
    "turnout_resident_memory_bytes": Family("gauge", (), "Their memory."),
    "turnout_build_info": Family("gauge", ("version",), "Always 1.", together="one"),
}
