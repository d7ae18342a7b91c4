"""How long reports take over a ledger of many rows: makes it, rolls it up, and asks what a team and an operator ask.

    python bench/reports.py [--rows 10000000] [--days 30] [--database FILE | postgresql://USER:PASSWORD@HOST/DATABASE]

The rows are of 50 teams with 3 keys each, 3 of 9 models, 3 targets a model, a fifth of them of an engine of the gateway's own, and one in a hundred
of a provider without a known cost; the database makes them itself. One that has rows is used as it is.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, time
from typing import Any

from sqlalchemy import Engine, text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ledger.breakeven import breakeven
from ledger.calibration import calibration
from ledger.database import open_engine
from ledger.engine_time import EngineTime, write
from ledger.latency import latency
from ledger.rollups import roll_up
from ledger.summed import summed
from ledger.upkeep import analyse
from ledger.window import Window

TIMES = 15  # each report
DAY_S = 86_400
# Multiplied numbers stand for random ones, exponentials of them for the long tails of latencies and lengths.
NUMBERS = {  # from :low on, and each as an id
    "sqlite": ("WITH RECURSIVE n(i) AS (SELECT :low UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :high)", "printf('req_%024x', i)"),
    "postgresql": (
        "WITH n(i) AS (SELECT generate_series(CAST(:low AS BIGINT), CAST(:high AS BIGINT) - 1))",
        "'req_' || lpad(to_hex(i), 24, '0')",
    ),
}
GENERATE = """
{numbers},
r AS (SELECT i, (i * 2654435761) % 4294967291 AS a, (i * 2246822519) % 4294967279 AS b,
    (i * 3266489917) % 1000003 / CAST(1000003 AS DOUBLE PRECISION) AS u, (i * 668265263) % 999983 / CAST(999983 AS DOUBLE PRECISION) AS v FROM n),
t AS (SELECT *, a % 50 AS team, (a / 50) % 3 AS key, ((a / 150) % 3 + a % 50) % 9 AS model, (b % 3) AS target, b % 100 < 4 AS failed FROM r),
o AS (SELECT *, (model + target) % 5 = 4 AS own, (model + target) % 5 = 3 AND a % 100 = 0 AS unpriced FROM t)
INSERT INTO attempts (request_id, attempt, started_at_us, team, key_id, endpoint, stream, model_asked, route, target, model_sent, status, reason,
    queue_us, connect_us, headers_us, first_token_us, end_us, input_uncached, cache_read, output_visible, usage_source, usage_raw, cost_nusd,
    finish_reason, bytes_request, bytes_upstream, bytes_client, billed, predicted_ttft_us, predicted_end_us, predicted_p_slo, organisation, policy,
    slo_met, overhead_us, predicted_end_p95_us, predicted_output_tokens, predicted_cost_nusd, engine_prefill_us, engine_decode_us, engine_nusd)
SELECT {id}, 1, :from_us + CAST(i * CAST(:step_us AS DOUBLE PRECISION) AS BIGINT), 'team-' || team, 'key-' || team || '-' || key, 'chat.completions',
    b % 4 > 0, 'model-' || model, 'model-' || model, CASE WHEN own THEN 'own' ELSE 'provider-' || ((model + target) % 5) END,
    CASE WHEN own THEN 'own' ELSE 'up-' || model || '-' || target END,
    CASE WHEN failed THEN 'failed' ELSE 'ok' END, 'first in order', 50, 900, 90000, CAST(120000 * exp(2 * u) AS BIGINT),
    CAST(400000 * exp(3 * v) AS BIGINT), CASE WHEN failed THEN NULL ELSE CAST(60 * exp(6 * v) AS BIGINT) END,
    CASE WHEN failed THEN NULL ELSE 100 END, CASE WHEN failed THEN NULL ELSE CAST(30 * exp(3 * u) AS BIGINT) END,
    CASE WHEN failed THEN NULL ELSE 'provider' END, CASE WHEN failed THEN NULL ELSE '{{"prompt_tokens"\\:100,"completion_tokens"\\:30}}' END,
    CASE WHEN failed OR own OR unpriced THEN NULL ELSE CAST(100000 * exp(4 * v) AS BIGINT) END, 'stop', 4000, 20000, 20000, 'team',
    CAST(150000 * exp(2 * v) AS BIGINT), 2000000, v, '', 'policy-' || (team % 3), u < 0.9, 400,
    6000000, 80, CAST(120000 * exp(4 * v) AS BIGINT), CASE WHEN own THEN 50000 END, CASE WHEN own THEN 200000 END, CASE WHEN own THEN 90000 END
FROM o
"""


def generate(engine: Engine, rows: int, days: int, now_s: float) -> None:
    """Rows of the days up to now, by the database itself."""
    numbers, id = NUMBERS[engine.dialect.name]
    statement = text(GENERATE.format(numbers=numbers, id=id))
    from_us, step_us = int((now_s - days * DAY_S) * 1e6), days * DAY_S * 1e6 / rows
    for low in range(0, rows, 500_000):
        with engine.begin() as connection:
            connection.execute(statement, {"low": low, "high": min(rows, low + 500_000), "from_us": from_us, "step_us": step_us})
    ends = range(from_us, int(now_s * 1e6), 60_000_000)
    write(engine, [EngineTime("own", at, 60_000_000, 40_000_000, nusd_per_hour=1_000_000_000) for at in ends])
    minute = "started_at_us / 60000000"
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO stale_spans SELECT CAST({minute} AS TEXT), 60, {minute} * 60 FROM attempts GROUP BY {minute}"))


def asked(engine: Any, now_s: float, rng: random.Random) -> dict[str, Callable[[], Any]]:
    """A name for each question, and what asks it."""

    def window(days: float, team: bool) -> Window:
        filters = {"team": f"team-{rng.randrange(50)}"} if team else {}
        return Window(int((now_s - days * DAY_S) * 1e6), int(now_s * 1e6), filters)

    def sums(days: float, team: bool, *groups: str) -> Any:
        roll_up(engine, now_s)
        return summed(engine, window(days, team), groups, now_s)

    def latencies(days: float, team: bool, *groups: str) -> Any:
        roll_up(engine, now_s)
        return latency(engine, window(days, team), groups, now_s)

    def predictions(days: float, team: bool, *groups: str) -> Any:
        roll_up(engine, now_s)
        return calibration(engine, window(days, team), groups, now_s)

    def break_even(days: float, team: bool) -> Any:
        roll_up(engine, now_s)
        return breakeven(engine, window(days, team), {}, now_s)

    return {
        "a team's break-even, 30 days": partial(break_even, 30, True),
        "everybody's break-even, 1 day": partial(break_even, 1, False),
        "everybody's break-even, 30 days": partial(break_even, 30, False),
        "a team's calibration by target, 30 days": partial(predictions, 30, True, "target", "p_slo"),
        "everybody's calibration by target, 30 days": partial(predictions, 30, False, "target"),
        "everybody's calibration by p_slo, 30 days": partial(predictions, 30, False, "p_slo"),
        "a team's cost by target, 30 days": partial(sums, 30, True, "target"),
        "a team's usage by model and day, 30 days": partial(sums, 30, True, "model", "day"),
        "a team's usage by hour, 7 days": partial(sums, 7, True, "hour"),
        "a team's usage by minute, 1 hour": partial(sums, 1 / 24, True, "minute"),
        "a team's SLO by policy, 30 days": partial(sums, 30, True, "policy"),
        "a team's latency by target, 30 days": partial(latencies, 30, True, "target"),
        "a team's latency by prompt, 7 days": partial(latencies, 7, True, "prompt"),
        "a team's latency by hour, 1 day": partial(latencies, 1, True, "hour"),
        "everybody's cost by team, 1 day": partial(sums, 1, False, "team"),
        "everybody's cost by team, 30 days": partial(sums, 30, False, "team"),
        "everybody's cost by key, 30 days": partial(sums, 30, False, "key"),
        "everybody's usage by target and day, 30 days": partial(sums, 30, False, "target", "day"),
        "everybody's latency by target, 30 days": partial(latencies, 30, False, "target"),
        "everybody's latency by team, 30 days": partial(latencies, 30, False, "team"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--database")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = options.database or str(Path(folder) / "turnout.db")
        began, engine = perf_counter(), open_engine(told if "://" in told else f"sqlite:///{told}")
        with engine.connect() as connection:
            fresh = connection.execute(text("SELECT 1 FROM attempts LIMIT 1")).first() is None
        if fresh:
            generate(engine, options.rows, options.days, time())
            print(f"{options.rows:,} rows made in {perf_counter() - began:.0f} s", flush=True)
        now_s, began = time(), perf_counter()
        while not roll_up(engine, now_s, 10.0):
            print(f"  rolling up, {perf_counter() - began:.0f} s", flush=True)
        analyse(engine)
        print(f"rolled up in {perf_counter() - began:.0f} s", flush=True)
        every: dict[str, list[float]] = {"a team's": [], "everybody's": []}
        for name, ask in asked(engine, now_s, random.Random(1)).items():
            took = []
            for _ in range(TIMES):
                began = perf_counter()
                found = ask()
                took.append((perf_counter() - began) * 1e3)
            every["a team's" if name.startswith("a team") else "everybody's"] += took
            took.sort()
            print(f"{name:<45} {len(found):5} groups   p50 {took[len(took) // 2]:7.1f} ms   p95 {took[len(took) * 95 // 100]:7.1f} ms", flush=True)
        for whose, took in every.items():
            took.sort()
            print(f"{whose} reports: p50 {took[len(took) // 2]:.1f} ms   p95 {took[len(took) * 95 // 100]:.1f} ms")
        engine.dispose()


if __name__ == "__main__":
    main()
