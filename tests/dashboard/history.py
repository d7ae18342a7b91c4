"""A ledger with a past: rows made by SQL, so that a million of them take seconds. Three targets, of which one fails now and then, and two teams."""

import time

from sqlalchemy import Engine, insert, text

from ledger.engine_time import EngineTime, write
from ledger.rollups import minute_of, stale
from ledger.schema import stale_spans

US = 1_000_000
HOUR_US = 3600 * US

# Every 39th request fails, at `beta`; every 11th is a kept answer; spread evenly over the time, `i` as the only source of variety.
# `p`: how likely the SLO was thought to be met.
ROWS = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :rows),
made AS (
  SELECT i, (i * 2654435761) % 1000 AS r, 1 - 0.5 * pow((i * 40503) % 1000 / 1000.0, 3) AS p,
    (i * 7919) % 1000 / 1000.0 AS luck,
    i % 13 = 0 AND i % 11 <> 0 AND i % 3 = 1 AS failed,
    CASE WHEN i % 11 = 0 THEN 'cache' WHEN i % 3 = 0 THEN 'alpha' WHEN i % 3 = 1 THEN 'beta' ELSE 'cpu' END AS who
  FROM n)
INSERT INTO attempts (request_id, attempt, started_at_us, team, key_id, endpoint, stream, model_asked, route,
  target, model_sent, status, reason, error_code, http_status, client_status,
  queue_us, connect_us, headers_us, first_token_us, end_us,
  input_uncached, cache_read, output_visible, usage_source,
  cost_nusd, bytes_request, bytes_upstream, bytes_client, billed, organisation,
  cache, saved_nusd, policy, slo_met, overhead_us,
  predicted_p_slo, predicted_ttft_us, predicted_end_us, predicted_end_p95_us, predicted_output_tokens, predicted_cost_nusd)
SELECT printf('req_%032d', i), CASE WHEN who = 'cache' THEN 0 ELSE 1 END,
  CAST(:from_us + (CAST(i AS REAL) + 0.5) / :rows * (:to_us - :from_us) AS INTEGER),
  CASE WHEN i % 5 = 0 THEN 'ads' ELSE 'search' END, 'key_' || (i % 4), 'chat.completions', 1, 'chat', 'chat',
  who, CASE who WHEN 'cpu' THEN 'cpu' WHEN 'cache' THEN '' ELSE 'small' END, CASE WHEN failed THEN 'failed' ELSE 'ok' END,
  CASE WHEN failed THEN 'upstream_error' ELSE 'cheapest' END, CASE WHEN failed THEN 'upstream_error' END,
  CASE WHEN failed THEN 500 ELSE 200 END, CASE WHEN failed THEN 502 ELSE 200 END,
  200 + r, CASE WHEN who NOT IN ('cache', 'cpu') THEN 3000 + 5 * r END, 20000 + 40 * r,
  CASE WHEN NOT failed THEN 120000 + 600 * r END, 700000 + 1500 * r,
  CASE WHEN NOT failed THEN 400 + r END, CASE WHEN NOT failed THEN r / 3 END,
  CASE WHEN NOT failed THEN 60 + r / 5 END, CASE WHEN NOT failed THEN 'provider' END,
  CASE WHEN failed THEN NULL WHEN who = 'alpha' THEN 90000 + 300 * r WHEN who = 'beta' THEN 160000 + 500 * r WHEN who IN ('cpu', 'cache') THEN 0 END,
  900, 4000, 4000, 'team', '',
  CASE WHEN who = 'cache' THEN 'hit' ELSE 'miss' END, CASE WHEN who = 'cache' THEN 120000 + r END, 'interactive', NOT failed AND luck < p - 0.01,
  300 + r / 5,
  CASE WHEN who <> 'cache' THEN p END, CASE WHEN who <> 'cache' THEN 690000 END, CASE WHEN who <> 'cache' THEN 1500000 END,
  CASE WHEN who <> 'cache' THEN 2090000 END, CASE WHEN who <> 'cache' THEN 170 END,
  CASE WHEN who = 'alpha' THEN 250000 WHEN who = 'beta' THEN 400000 END
FROM made
"""


def fill(engine: Engine, rows: int, hours: float) -> None:
    """So many requests over the last hours, and what the engine `cpu` did meanwhile."""
    now_us = int(time.time() * 1e6)
    from_us = now_us - int(hours * HOUR_US)
    with engine.begin() as connection:
        connection.execute(text(ROWS), {"rows": rows, "from_us": from_us, "to_us": now_us})
        connection.execute(insert(stale_spans), stale(range(minute_of(from_us), minute_of(now_us) + 60, 60)))
    minutes = range(int(hours * 60))
    write(engine, [_minute(now_us, minute) for minute in minutes])


def _minute(now_us: int, minute: int) -> EngineTime:
    """It sleeps in the last ten of each hour."""
    up_us = 0 if minute % 60 < 10 else 60 * US
    busy_us = (18 + minute % 20) * US if up_us else 0
    return EngineTime("cpu", now_us - minute * 60 * US, up_us, busy_us, nusd_per_hour=40_000_000, asleep_us=60 * US - up_us)
