"""What the ledger says: sums by group in which unknown stays unknown, and one request told attempt by attempt."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from contract.usage import Usage
from ledger.described import describe_decision, describe_request
from ledger.queries import Spend, all_attempts, attempts_of, spend
from ledger.row import AttemptRow
from ledger.store import Ledger
from ledger.units import usd
from ledger.window import GROUPS
from tests.ledger.rows import FULL_ROW, STARTED_AT_US, emptied, row

Fill = Callable[..., Engine]
KNOWN = Usage(input_uncached=100, output_visible=10)


@pytest.fixture(scope="module")
def ledger(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    ledger = Ledger(database, spool=tmp_path_factory.mktemp("spool"))
    yield ledger
    ledger.close()


@pytest.fixture
def fill(ledger: Ledger) -> Fill:
    """Puts rows into a ledger and gives the engine to ask it with."""
    emptied(ledger.engine)

    def put(*rows: AttemptRow) -> Engine:
        for one in rows:
            ledger.append(one)
        assert ledger.flush() and not ledger.dropped
        return ledger.engine

    return put


# --- one request -----------------------------------------------------------------------------------------------------------
def test_attempts_come_in_their_order_whatever_order_they_were_written_in(fill: Fill) -> None:
    engine = fill(*(row(attempt=number, started_at_us=100 - number) for number in (10, 2, 1, 3)), row("req_2"))
    assert [found.attempt for found in attempts_of(engine, "req_1", None)] == [1, 2, 3, 10]


@pytest.mark.parametrize(("team", "count"), [(None, 1), ("red", 1), ("blue", 0), ("", 0), ("Red", 0), ("%", 0)])
def test_a_team_sees_its_own_requests_only(fill: Fill, team: str | None, count: int) -> None:
    assert len(attempts_of(fill(row(team="red")), "req_1", team)) == count


@pytest.mark.parametrize("request_id", ["req_2", "", "req", "req_%", "REQ_1", "' OR 1=1 --"])
def test_a_request_that_is_not_there_has_no_attempts(fill: Fill, request_id: str) -> None:
    assert attempts_of(fill(row()), request_id, None) == []


def test_all_attempts_come_by_time_from_the_moment_that_is_named(fill: Fill) -> None:
    engine = fill(*(row(f"req_{at}", started_at_us=at) for at in (30, 10, 20)))
    assert [found.request_id for found in all_attempts(engine)] == ["req_10", "req_20", "req_30"]
    assert [found.request_id for found in all_attempts(engine, 20)] == ["req_20", "req_30"]


# --- spend -----------------------------------------------------------------------------------------------------------------
ROWS = (
    row("req_1", 1, status="failed", error_code="upstream_error", target="one"),
    row("req_1", 2, target="two", usage=KNOWN, cost_nusd=500, reason="fallback"),
    row("req_2", 1, target="one", usage=Usage(input_uncached=1, cache_read=2, cache_write_5m=3, cache_write_1h=4, audio_input=5), cost_nusd=70),
    row("req_3", 1, status="cut", target="two", usage=Usage(output_visible=6, reasoning=7, audio_output=8, source="estimated"), cost_nusd=9),
    row("req_4", 1, team="blue", key_id="key_2", model_asked="other", model_sent="other-1", target="two", usage=KNOWN),
    row("req_5", 1, team="blue", key_id="key_2", status="client_closed", target="one", model_sent="other-1"),
)
MINUTE, HOUR, DAY = "2026-09-21T14:13:00Z", "2026-09-21T14:00:00Z", "2026-09-21T00:00:00Z"
EXPECTED: dict[str, list[Spend]] = {
    "team": [Spend("red", 3, 4, 2, 115, 31, 579, None, 0), Spend("blue", 2, 2, 1, 100, 10, None, None, 1)],
    "key": [Spend("key_1", 3, 4, 2, 115, 31, 579, None, 0), Spend("key_2", 2, 2, 1, 100, 10, None, None, 1)],
    "model": [Spend("solo", 4, 5, 3, 115, 31, 579, None, 0), Spend("other", 1, 1, 0, 100, 10, None, None, 1)],
    "provider": [Spend("two", 2, 3, 1, 200, 41, 509, None, 1), Spend("one", 3, 3, 2, 15, 0, 70, None, 0)],
    "target": [
        Spend("two/gpt-5", 1, 2, 1, 100, 31, 509, None, 0),
        Spend("one/gpt-5", 2, 2, 1, 15, 0, 70, None, 0),
        Spend("one/other-1", 1, 1, 1, 0, 0, None, None, 0),
        Spend("two/other-1", 1, 1, 0, 100, 10, None, None, 1),
    ],
    "model_sent": [Spend("gpt-5", 3, 4, 2, 115, 31, 579, None, 0), Spend("other-1", 2, 2, 1, 100, 10, None, None, 1)],
    "status": [
        Spend("ok", 2, 3, 0, 215, 20, 570, None, 1),
        Spend("cut", 1, 1, 1, 0, 21, 9, None, 0),
        Spend("client_closed", 1, 1, 1, 0, 0, None, None, 0),
        Spend("failed", 1, 1, 1, 0, 0, None, None, 0),
    ],
    **{by: [Spend("", 5, 6, 3, 215, 41, 579, None, 1)] for by in ("organisation", "policy")},
    **{by: [Spend(start, 5, 6, 3, 215, 41, 579, None, 1)] for by, start in (("minute", MINUTE), ("hour", HOUR), ("day", DAY))},
}


def test_the_table_has_every_group() -> None:
    assert set(EXPECTED) == set(GROUPS)


@pytest.mark.parametrize("by", GROUPS)
def test_spend_sums_every_group_the_dearest_first(fill: Fill, by: str) -> None:
    assert spend(fill(*ROWS), 0, by) == EXPECTED[by]


@pytest.mark.parametrize("by", GROUPS)
def test_spend_of_a_team_leaves_the_others_out(fill: Fill, by: str) -> None:
    found = spend(fill(*ROWS), 0, by, team="blue")
    assert sum(group.attempts for group in found) == 2 and all(group.cost_nusd is None for group in found)


@pytest.mark.parametrize("by", ["", "nothing", "cost_nusd", "team; DROP TABLE attempts"])
def test_an_unknown_group_is_a_key_error(fill: Fill, by: str) -> None:
    with pytest.raises(KeyError):
        spend(fill(), 0, by)


def test_nothing_spent_is_no_groups(fill: Fill) -> None:
    assert spend(fill(), 0, "team") == []


@pytest.mark.parametrize(("since", "requests"), [(0, 3), (10, 3), (11, 2), (20, 2), (30, 1), (31, 0)])
def test_since_takes_what_began_then_or_later(fill: Fill, since: int, requests: int) -> None:
    found = spend(fill(*(row(f"req_{at}", started_at_us=at) for at in (10, 20, 30))), since, "team")
    assert sum(group.requests for group in found) == requests


UNKNOWN_COSTS = {
    "no attempt is priced": ([(KNOWN, None, "ok"), (KNOWN, None, "ok")], None, 2),
    "one of two is priced": ([(KNOWN, 5, "ok"), (KNOWN, None, "ok")], 5, 1),
    "a price of zero is a price": ([(KNOWN, 0, "ok")], 0, 0),
    "an answer that did not tell its usage": ([(None, None, "ok")], None, 1),
    "an answer that was cut before it told": ([(None, None, "cut")], None, 1),
    "a failure without usage costs nothing": ([(None, None, "failed"), (KNOWN, 5, "ok")], 5, 0),
    "a failure with usage costs something": ([(KNOWN, None, "failed")], None, 1),
    "the client left before the answer": ([(None, None, "client_closed")], None, 0),
    "a race was lost before the answer told its usage": ([(None, None, "abandoned"), (KNOWN, 5, "ok")], 5, 1),
    "a race was lost by a known cost": ([(KNOWN, 3, "abandoned"), (KNOWN, 5, "ok")], 8, 0),
}


@pytest.mark.parametrize(("attempts", "cost", "unpriced"), UNKNOWN_COSTS.values(), ids=UNKNOWN_COSTS)
def test_an_unknown_cost_is_counted_and_never_zero(
    fill: Fill, attempts: list[tuple[Usage | None, int | None, Any]], cost: int | None, unpriced: int
) -> None:
    engine = fill(
        *(row(attempt=n, usage=usage, cost_nusd=nusd, status=status, bytes_request=9) for n, (usage, nusd, status) in enumerate(attempts, 1))
    )
    (found,) = spend(engine, 0, "team")
    assert (found.cost_nusd, found.unpriced) == (cost, unpriced)


def test_a_request_that_got_no_attempt_is_a_request_that_failed(fill: Fill) -> None:
    (found,) = spend(fill(row(attempt=0, status="failed", target="")), 0, "team")
    assert (found.requests, found.attempts, found.failed, found.cost_nusd) == (1, 0, 1, None)


def test_a_race_that_was_lost_in_the_queue_cost_nothing(fill: Fill) -> None:
    (found,) = spend(fill(row(status="abandoned", bytes_request=0)), 0, "team")
    assert (found.cost_nusd, found.unpriced, found.failed) == (None, 0, 0)


def test_what_the_gateway_bears_stands_apart_from_what_the_team_is_charged(fill: Fill) -> None:
    lost = row(attempt=1, status="abandoned", billed="gateway", usage=KNOWN, cost_nusd=700)
    (found,) = spend(fill(lost, row(attempt=2, usage=KNOWN, cost_nusd=500)), 0, "team")
    assert (found.cost_nusd, found.absorbed_nusd, found.attempts, found.requests, found.failed) == (500, 700, 2, 1, 0)


def test_sums_are_exact_beyond_what_a_float_holds(fill: Fill) -> None:
    (found,) = spend(fill(row(cost_nusd=2**60, usage=KNOWN), row("req_2", cost_nusd=1, usage=KNOWN)), 0, "team")
    assert found.cost_nusd == 2**60 + 1


# --- a report --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("nusd", "told"),
    [
        (None, None),
        (0, "0.000000000"),
        (1, "0.000000001"),
        (999_999_999, "0.999999999"),
        (1_000_000_000, "1.000000000"),
        (1_234_567_890_123, "1234.567890123"),
        (2**62, "4611686018.427387904"),
    ],
)
def test_dollars_are_exact(nusd: int | None, told: str | None) -> None:
    assert usd(nusd) == told


@given(st.integers(0, 2**63 - 1))
def test_dollars_tell_every_nano_dollar(nusd: int) -> None:
    assert int((usd(nusd) or "").replace(".", "")) == nusd


COSTS = {
    "all known": ([(KNOWN, 1, "ok"), (KNOWN, 2, "ok")], "0.000000003"),
    "one unknown": ([(KNOWN, 1, "ok"), (KNOWN, None, "ok")], None),
    "none known": ([(KNOWN, None, "ok")], None),
    "a failure that used nothing": ([(None, None, "failed"), (KNOWN, 2, "ok")], "0.000000002"),
    "only failures that used nothing": ([(None, None, "failed"), (None, None, "failed")], None),
    "an answer that did not tell its usage": ([(KNOWN, 2, "cut"), (None, None, "ok")], None),
    "a cut that did not tell its usage": ([(None, None, "cut"), (KNOWN, 2, "ok")], None),
    "free": ([(KNOWN, 0, "ok")], "0.000000000"),
}


@pytest.mark.parametrize(("attempts", "told"), COSTS.values(), ids=COSTS)
def test_the_cost_of_a_request_is_null_when_one_attempt_is_unknown(attempts: list[tuple[Usage | None, int | None, Any]], told: str | None) -> None:
    rows = [row(attempt=n, usage=usage, cost_nusd=nusd, status=status) for n, (usage, nusd, status) in enumerate(attempts, 1)]
    assert describe_request(rows)["cost_usd"] == told


def test_the_last_attempt_says_how_a_request_ended() -> None:
    told = describe_request([row(status="failed", client_status=None), row(attempt=2, status="cut", client_status=200)])
    assert (told["status"], told["client_status"]) == ("cut", 200)
    assert [(attempt["attempt"], attempt["status"]) for attempt in told["attempts"]] == [(1, "failed"), (2, "cut")]


ENDS = {
    "the other runner was given up": ([("ok", 200), ("abandoned", None)], ("ok", 200)),
    "the other runner failed": ([("ok", 200), ("failed", None)], ("ok", 200)),
    "the other runner failed, and what began was cut": ([("cut", 200), ("failed", None)], ("cut", 200)),
    "what was cut went on elsewhere": ([("cut", 200), ("ok", 200)], ("ok", 200)),
    "what was cut went on elsewhere until the client left": ([("cut", 200), ("client_closed", 200)], ("client_closed", 200)),
    "both runners failed, the first one last": ([("failed", 502), ("failed", None)], ("failed", 502)),
}


@pytest.mark.parametrize(("attempts", "ended"), ENDS.values(), ids=ENDS)
def test_a_request_ended_as_the_attempt_that_fared_best(attempts: list[tuple[Any, int | None]], ended: tuple[str, int]) -> None:
    told = describe_request([row(attempt=n, status=status, client_status=client) for n, (status, client) in enumerate(attempts, 1)])
    assert (told["status"], told["client_status"]) == ended


def test_a_request_s_cost_leaves_out_what_the_gateway_bears() -> None:
    lost = row(attempt=2, status="abandoned", billed="gateway", usage=KNOWN, cost_nusd=7)
    told = describe_request([row(usage=KNOWN, cost_nusd=5), lost])
    assert (told["cost_usd"], told["absorbed_usd"]) == ("0.000000005", "0.000000007")
    assert [attempt["billed"] for attempt in told["attempts"]] == ["team", "gateway"]


def test_what_was_predicted_stands_beside_what_came() -> None:
    (attempt,) = describe_request([FULL_ROW])["attempts"]
    assert attempt["predicted"] == {
        "prompt_tokens": 11,
        "ttft_p95_ms": 0.012,
        "end_ms": 0.013,
        "end_p95_ms": 0.014,
        "output_tokens": 15,
        "cost_usd": "0.000000016",
        "p_slo": 0.9,
    }


def test_nothing_predicted_is_null() -> None:
    (attempt,) = describe_request([row()])["attempts"]
    assert attempt["predicted"] is None


def test_a_decision_is_told_as_it_was_stored_with_what_then_happened(fill: Fill) -> None:
    first = row(attempt=1, status="failed", decision=msgspec.Raw(b'{"why":"cheapest","candidates":[]}'))
    told = describe_decision(attempts_of(fill(first, row(attempt=2)), "req_1", None))
    assert told["decision"] == {"why": "cheapest", "candidates": []}
    assert (told["request_id"], told["model"], told["status"]) == ("req_1", "solo", "ok")
    assert [attempt["status"] for attempt in told["attempts"]] == ["failed", "ok"]


def test_a_request_from_before_decisions_were_kept_has_none() -> None:
    assert describe_decision([row()])["decision"] is None


def test_a_report_tells_the_whole_row_and_is_json(fill: Fill) -> None:
    told = describe_request(attempts_of(fill(FULL_ROW), "req_full", None))
    assert json.loads(json.dumps(told)) == told
    (attempt,) = told["attempts"]
    assert attempt["ms"] == {"queue": 0.001, "connect": 0.002, "headers": 0.003, "first_token": 0.004, "end": 2**62 / 1000}
    assert attempt["bytes"] == {"request": 10, "upstream": 20, "client": 30}
    assert attempt["usage"]["reasoning"] == 7 and attempt["usage"]["source"] == "estimated"
    assert attempt["usage"]["raw"] == {"prompt_tokens": 15.0, "note": "é é"}
    assert attempt["cost_usd"] == "4611686018.427387904" == told["absorbed_usd"]
    assert attempt["started_at"].endswith("+00:00") and attempt["upstream_id"] == FULL_ROW.upstream_id


def test_what_is_unknown_is_null_in_a_report() -> None:
    (attempt,) = describe_request([row(usage=Usage(input_uncached=0))])["attempts"]
    assert set(attempt["ms"].values()) == {None} and attempt["cost_usd"] is None
    assert attempt["usage"]["input_uncached"] == 0 and attempt["usage"]["output_visible"] is None and attempt["usage"]["raw"] is None
    (without,) = describe_request([row()])["attempts"]
    assert without["usage"] is None


def test_a_row_read_back_is_described_like_the_row_itself(fill: Fill) -> None:
    rows = [FULL_ROW, msgspec.structs.replace(FULL_ROW, attempt=4, usage=None, started_at_us=STARTED_AT_US + 1)]
    assert describe_request(attempts_of(fill(*rows), "req_full", None)) == describe_request(rows)
