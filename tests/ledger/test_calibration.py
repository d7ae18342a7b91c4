"""Predicted against actual: what counts as in time, what counts at all, and how the errors are divided."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from contract.usage import Usage
from ledger.calibration import Calibration, Coverage, Error, calibration
from ledger.rollups import roll_up
from ledger.row import AttemptRow
from ledger.store import Ledger
from ledger.window import FOR_EVER_US, Window
from tests.ledger.rows import STARTED_AT_US, emptied, row

Report = Callable[..., list[Calibration]]
NO_ERROR = Error(0, None, None, None, None)


@pytest.fixture(scope="module")
def ledger(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    ledger = Ledger(database, spool=tmp_path_factory.mktemp("spool"))
    yield ledger
    ledger.close()


@pytest.fixture(params=["rows", "rolled up"])
def report(ledger: Ledger, request: pytest.FixtureRequest) -> Report:
    """Puts rows into a ledger and reports on them; from themselves, and from what they were rolled up to."""
    emptied(ledger.engine)

    def made(*rows: AttemptRow, by: str = "target", since_us: int = 0, team: str | None = None) -> list[Calibration]:
        for one in rows:
            ledger.append(one)
        assert ledger.flush() and not ledger.dropped
        engine: Engine = ledger.engine
        window = Window(since_us, FOR_EVER_US, {} if team is None else {"team": team})
        if request.param == "rows":
            return calibration(engine, window, by.split(",") if by else [], now_s=0.0)
        now_s = max((one.started_at_us for one in rows), default=0) // 10**6 + 2 * 86_400.0
        assert roll_up(engine, now_s)
        return calibration(engine, window, by.split(",") if by else [], now_s)

    return made


TOLD = Usage(output_visible=1)


def streamed(number: int, **fields: Any) -> AttemptRow:
    """A whole streamed answer that began after 100 ms and ended after a second; predicted: 200 ms, and two seconds, at the 95th percentile."""
    plain = {"first_token_us": 100_000, "end_us": 1_000_000, "predicted_ttft_us": 200_000, "predicted_end_p95_us": 2_000_000}
    return row(f"req_{number}", stream=True, **{**plain, **fields})


# --- coverage --------------------------------------------------------------------------------------------------------------
def test_the_share_within_the_p95_is_of_the_attempts_that_had_one(report: Report) -> None:
    late = (streamed(number, first_token_us=200_001 if number < 3 else 200_000) for number in range(20))
    (found,) = report(*late, streamed(20, predicted_ttft_us=None))
    assert found.ttft == Coverage(20, 17 / 20) and found.end == Coverage(21, 1.0) and found.attempts == 21


def test_the_first_token_of_an_unary_answer_is_not_compared(report: Report) -> None:
    (found,) = report(streamed(1, predicted_ttft_us=None), row("req_u", first_token_us=5, predicted_ttft_us=9, end_us=10, predicted_end_p95_us=9))
    assert found.ttft == Coverage(0, None) and found.end == Coverage(2, 0.5)


ENDED = {
    "a failure says nothing": ({"status": "failed", "first_token_us": None}, (0, None), (0, None)),
    "a cut had begun": ({"status": "cut"}, (1, 1.0), (0, None)),
    "abandoned before its p95 says nothing": ({"status": "abandoned", "first_token_us": None, "end_us": 150_000}, (0, None), (0, None)),
    "abandoned after its p95 was late": ({"status": "abandoned", "first_token_us": None, "end_us": 200_001}, (1, 0.0), (0, None)),
    "abandoned after it had begun in time": ({"status": "abandoned", "end_us": 300_000}, (1, 1.0), (0, None)),
    "a client that left after both p95 saw two late": ({"status": "client_closed", "first_token_us": None, "end_us": 3_000_000}, (1, 0.0), (1, 0.0)),
    "a client that left while it came in time": ({"status": "client_closed", "end_us": 500_000}, (1, 1.0), (0, None)),
}


@pytest.mark.parametrize(("fields", "ttft", "end"), ENDED.values(), ids=ENDED)
def test_an_attempt_that_did_not_end_well_counts_as_far_as_it_is_known(report: Report, fields: Any, ttft: Any, end: Any) -> None:
    (found,) = report(streamed(1, **fields))
    assert (found.ttft, found.end) == (Coverage(*ttft), Coverage(*end))


# --- errors ----------------------------------------------------------------------------------------------------------------
def test_errors_are_shares_of_what_came(report: Report) -> None:
    (found,) = report(
        row("req_1", usage=TOLD, cost_nusd=3_000_000_000, predicted_cost_nusd=2_000_000_000, end_us=2_000, predicted_end_us=4_000),
        row("req_2", usage=TOLD, cost_nusd=1_000_000_000, predicted_cost_nusd=4_000_000_000, end_us=2_000, predicted_end_us=2_000),
    )
    assert found.cost_usd == Error(2, predicted=3.0, actual=2.0, absolute_share=1.0, bias_share=0.5)
    assert found.end_ms == Error(2, predicted=3.0, actual=2.0, absolute_share=0.5, bias_share=0.5)


def test_a_too_low_prediction_has_a_bias_below_zero(report: Report) -> None:
    (found,) = report(row(usage=TOLD, cost_nusd=400, predicted_cost_nusd=100))
    assert (found.cost_usd.absolute_share, found.cost_usd.bias_share) == (0.75, -0.75)


def test_output_tokens_are_all_that_the_model_made(report: Report) -> None:
    (found,) = report(row(usage=Usage(output_visible=10, reasoning=20, audio_output=30), predicted_output_tokens=90))
    assert found.output_tokens == Error(1, 90.0, 60.0, 0.5, 0.5)


NOT_COMPARED = {
    "an unknown cost": {"cost_nusd": None, "predicted_cost_nusd": 5},
    "a cost that was not predicted": {"cost_nusd": 5, "predicted_p_slo": 0.5},
    "an answer that was cut": {"cost_nusd": 5, "predicted_cost_nusd": 5, "status": "cut"},
    "a usage that was estimated": {
        "cost_nusd": 5,
        "predicted_cost_nusd": 5,
        "predicted_output_tokens": 1,
        "usage": Usage(output_visible=1, source="estimated"),
    },
    "an attempt that lost its race": {"cost_nusd": 5, "predicted_cost_nusd": 5, "status": "abandoned"},
}


@pytest.mark.parametrize("fields", NOT_COMPARED.values(), ids=NOT_COMPARED)
def test_what_cannot_be_compared_is_unknown_and_not_zero(report: Report, fields: Any) -> None:
    (found,) = report(row(**{"usage": TOLD, **fields}))
    assert found.cost_usd == NO_ERROR and found.output_tokens == NO_ERROR and found.attempts == 1


def test_a_free_answer_has_no_shares(report: Report) -> None:
    (found,) = report(row(usage=TOLD, cost_nusd=0, predicted_cost_nusd=10))
    assert found.cost_usd == Error(1, 10 / 1e9, 0.0, None, None)


def test_sums_beyond_64_bits_do_not_overflow(report: Report) -> None:
    (found,) = report(*(row(f"req_{n}", end_us=2**62, predicted_end_us=2**62) for n in range(4)))
    assert found.end_ms.absolute_share == 0.0


# --- the reliability plot --------------------------------------------------------------------------------------------------
def promised(number: int, p: float | None, met: bool | None, **fields: Any) -> AttemptRow:
    return row(f"req_{number}", predicted_p_slo=p, predicted_end_us=1, slo_met=met, **fields)


def test_each_bucket_of_probabilities_tells_how_often_it_came_true(report: Report) -> None:
    often = [promised(number, 0.97, number != 0) for number in range(20)]
    found = report(*often, promised(20, 0.2, False), promised(21, 0.25, True), promised(22, 1.0, True), promised(23, None, True), by="p_slo")
    assert [(each.group[0], each.slo.n, each.slo.observed) for each in found] == [
        ("0.2-0.3", 2, 0.5),
        ("0.95-0.99", 20, 0.95),
        ("0.99-1", 1, 1.0),
        (None, 0, None),
    ]
    low = found[0].slo
    assert low.predicted == pytest.approx(0.225) and low.brier == pytest.approx((0.2**2 + 0.75**2) / 2)
    assert 0.09 < (low.low or 0) < 0.1 and 0.9 < (low.high or 0) < 0.91  # Wilson's interval of 1 of 2: 0.0945 to 0.9055


JUDGED = {
    "a first attempt that failed missed, whatever came of the request": ({"status": "failed"}, (1, 0, 0.0)),
    "who lost a race is not judged": ({"status": "abandoned"}, (0, 1, None)),
    "a client that left is not judged": ({"status": "client_closed"}, (0, 1, None)),
    "a second attempt began later than its prediction counts from": ({"attempt": 2, "slo_met": True}, (0, 0, None)),
}


@pytest.mark.parametrize(("fields", "expected"), JUDGED.values(), ids=JUDGED)
def test_what_is_judged_is_what_was_promised(report: Report, fields: Any, expected: Any) -> None:
    (found,) = report(row(predicted_p_slo=0.9, **fields))
    assert (found.slo.n, found.slo.unjudged, found.slo.observed) == expected


# --- groups ----------------------------------------------------------------------------------------------------------------
def test_rows_without_any_prediction_are_left_out(report: Report) -> None:
    assert report(row(cost_nusd=5, usage=Usage(output_visible=1), prompt_tokens_estimated=3)) == []


GROUPED = {
    "target": [(("one/gpt-5",), 2), (("cpu",), 1), (("two/gpt-5",), 1)],
    "model": [(("solo",), 3), (("other",), 1)],
    "model,provider": [(("solo", "one"), 2), (("other", "cpu"), 1), (("solo", "two"), 1)],
    "": [((), 4)],
}


@pytest.mark.parametrize("by", GROUPED)
def test_groups_are_named_as_elsewhere_the_largest_first(report: Report, by: str) -> None:
    rows = (
        streamed(1),
        streamed(2),
        streamed(3, target="cpu", model_sent="cpu", model_asked="other"),
        streamed(4, target="two"),
    )
    assert [(found.group, found.attempts) for found in report(*rows, by=by)] == GROUPED[by]


def test_an_unknown_group_is_a_key_error(report: Report) -> None:
    with pytest.raises(KeyError):
        report(by="team")


def test_since_and_team_leave_the_others_out(report: Report) -> None:
    rows = (streamed(1), streamed(2, team="blue"), streamed(3, started_at_us=STARTED_AT_US - 1))
    assert [found.attempts for found in report(*rows, since_us=STARTED_AT_US, team="red")] == [1]
