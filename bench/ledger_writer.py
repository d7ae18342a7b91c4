"""What the ledger costs: microseconds of an `append` on the calling thread, and rows a second written end to end.

    python bench/ledger_writer.py
    python bench/ledger_writer.py postgresql://USER:PASSWORD@HOST/DATABASE     (an empty one; only the bursts)

Four ways of calling: in one burst, noted on disk before, at a steady pace, and with the database locked. The burst also with a decision among
three targets on each row, told by the ledger's thread.
"""

import sqlite3
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, sleep

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from msgspec.structs import replace

from contract.usage import Usage
from ledger.note import note_of
from ledger.row import AttemptRow
from ledger.store import Ledger
from policy.ask import Ask
from policy.decision import Decision, decision
from policy.plan import plan
from policy.predict import Live
from policy.residency import Candidate, Rates, admit
from policy.rule import Rule, Slo
from policy.stats import TargetStats

ROWS = 50_000
PACED = 2_000
PACE_S = 0.001


def decided() -> Callable[[], Decision]:
    """What tells a decision among three targets that are known."""
    rule, ask = Rule("interactive", objective="cheapest", slo=Slo(ttft_s=0.4)), Ask("req_0", True, 1_000, 300)
    admitted = admit(rule, tuple(Candidate(index, f"provider-{index}/model", False, rates=Rates(100, 400, 50)) for index in range(3)))
    stats = TargetStats()
    for _ in range(20):
        stats.observe(
            0.0, streamed=True, prompt_tokens=1_000, load=0, ttft_s=0.2, total_s=3.0, output_tokens=300, input_tokens=1_000, cached_tokens=0
        )
    live = [Live(stats.forecast(0.0, streamed=True, prompt_tokens=1_000, load=0)) for _ in admitted.allowed]
    return partial(decision, rule, ask, plan(rule, ask, admitted, live, 0.0), "chat")


def rows(count: int, told: Callable[[], Decision] | None = None) -> list[AttemptRow]:
    return [
        AttemptRow(
            request_id=f"req_{number:024x}",
            attempt=1,
            started_at_us=1_790_000_000_000_000 + number,
            team="red",
            key_id="key_1",
            endpoint="chat.completions",
            stream=True,
            model_asked="chat",
            route="chat",
            target="openai",
            model_sent="gpt-4o-mini",
            status="ok",
            reason="first in order",
            http_status=200,
            client_status=200,
            connect_us=1_000,
            headers_us=100_000,
            first_token_us=150_000,
            end_us=900_000,
            usage=Usage(input_uncached=1_000, cache_read=200, output_visible=300, reasoning=0),
            cost_nusd=345_000,
            finish_reason="stop",
            native_finish_reason="stop",
            upstream_id="chatcmpl-0123456789abcdef",
            bytes_request=4_000,
            bytes_upstream=20_000,
            bytes_client=20_000,
            decision=told,
        )
        for number in range(count)
    ]


def timed(ledger: Ledger, made: list[AttemptRow], pace_s: float = 0.0) -> list[float]:
    """Microseconds of each append."""
    took = []
    for row in made:
        began = perf_counter()
        ledger.append(row)
        took.append((perf_counter() - began) * 1e6)
        if pace_s:
            sleep(pace_s)
    return sorted(took)


def report(what: str, took: list[float]) -> None:
    mean, p50, p99 = sum(took) / len(took), took[len(took) // 2], took[len(took) * 99 // 100]
    print(f"append, {what:<24} mean {mean:6.2f} us   p50 {p50:5.2f}   p99 {p99:6.2f}   worst {took[-1]:9.2f}")


def burst(url: str, what: str, made: list[AttemptRow]) -> None:
    """`made`: rows that the database does not have yet."""
    ledger = Ledger(url)
    began = perf_counter()
    report(what, timed(ledger, made))
    if not ledger.flush(120):
        sys.exit("the rows were not written in time")
    took_s = perf_counter() - began
    ledger.close()
    if ledger.dropped:
        sys.exit(f"{ledger.dropped} rows were lost: was the database empty?")
    each = f"{took_s / len(made) * 1e6:.1f} us"
    if url.startswith("sqlite:///"):
        each += f" and {Path(url.removeprefix('sqlite:///')).stat().st_size / len(made):.0f} bytes"
    print(f"written end to end: {len(made)} rows in {took_s:.2f} s = {len(made) / took_s:,.0f} rows/s, {each} a row")


def main() -> None:
    made, with_decision = rows(ROWS), [replace(row, attempt=2) for row in rows(ROWS // 5, decided())]
    if len(sys.argv) > 1:
        burst(sys.argv[1], "burst", made)
        burst(sys.argv[1], "burst, with a decision", with_decision)
        return
    with tempfile.TemporaryDirectory() as folder:
        burst(f"sqlite:///{folder}/burst.db", "burst", made)
        burst(f"sqlite:///{folder}/decided.db", "burst, with a decision", with_decision)

        ledger = Ledger(f"sqlite:///{Path(folder) / 'begun.db'}")
        took = []
        for row in made:
            began = perf_counter()
            ledger.begin(note_of(row))
            took.append((perf_counter() - began) * 1e6)
            ledger.append(row)
        report("noted before it is sent", sorted(took))
        ledger.close()

        ledger = Ledger(f"sqlite:///{Path(folder) / 'paced.db'}")
        report(f"one every {PACE_S * 1e3:g} ms", timed(ledger, made[:PACED], PACE_S))
        ledger.close()

        file = Path(folder) / "locked.db"
        ledger = Ledger(f"sqlite:///{file}")
        lock = sqlite3.connect(file, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        report("the database locked", timed(ledger, made))
        lock.execute("COMMIT")
        lock.close()
        ledger.close()
        if ledger.dropped:
            sys.exit(f"{ledger.dropped} rows were lost")


if __name__ == "__main__":
    main()
