"""What a target was recorded to do stands for what it would have done; what was not recorded is not made up."""

from msgspec.structs import replace

from policy.evidence import LEAST, Estimate, Evidence, Question, Seen

ALPHA, BETA, OTHER = ("alpha", "small"), ("beta", "large"), ("gamma", "small")
HOUR = 3600.0
ASKED = Question("req_1", at=1_000.0, streamed=True, prompt_tokens=500)


def seen(at: float = 1_000.0, **fields: object) -> Seen:
    plain = Seen(at, True, "", 0.5, 2.5, 0, 500, 500, 0, 0, 101, 0)
    return replace(plain, **fields)


def known(*attempts: Seen, target: tuple[str, str] = ALPHA, evidence: Evidence | None = None) -> Evidence:
    evidence = evidence or Evidence(HOUR)
    for each in attempts:
        evidence.add(target, True, each)
    return evidence


def estimate(evidence: Evidence, asked: Question = ASKED, target: tuple[str, str] = ALPHA, load: int | None = None) -> Estimate:
    found = evidence.estimate(asked, target, load)
    assert found is not None
    return found


def test_an_estimate_is_one_of_the_recorded_attempts_and_the_request_s_id_alone_decides_which() -> None:
    evidence = known(*(seen(1_000.0 + n, ttft_s=n / 100, total_s=n / 100 + 2) for n in range(1, 9)))
    first = estimate(evidence)
    assert first.ttft_s in {n / 100 for n in range(1, 9)} and first == estimate(evidence)
    assert len({estimate(evidence, replace(ASKED, request_id=f"req_{n}")).ttft_s for n in range(50)}) > 3


def test_without_attempts_of_such_a_prompt_near_that_time_there_is_none() -> None:
    evidence = known(*[seen()] * LEAST)
    assert evidence.estimate(ASKED, ALPHA) is not None
    for other in (replace(ASKED, prompt_tokens=5_000), replace(ASKED, streamed=False), replace(ASKED, at=1_000.0 - HOUR - 1)):
        assert evidence.estimate(other, ALPHA) is None
    assert evidence.estimate(ASKED, BETA) is None
    assert evidence.estimate(replace(ASKED, at=1_000.0 + HOUR + 1), ALPHA) is None, "and they are forgotten"
    assert known(*[seen()] * (LEAST - 1)).estimate(ASKED, ALPHA) is None, "too few"


def test_the_nearest_in_time_stand_for_it() -> None:
    slow, quick = [seen(float(n), ttft_s=9.0) for n in range(100)], [seen(900.0 + n, ttft_s=0.1) for n in range(100)]
    evidence = known(*slow, *quick)
    assert {estimate(evidence, replace(ASKED, request_id=f"req_{n}", at=940.0)).ttft_s for n in range(30)} == {0.1}
    assert {estimate(evidence, replace(ASKED, request_id=f"req_{n}", at=50.0)).ttft_s for n in range(30)} == {9.0}


def test_where_load_decides_those_that_met_as_much_stand_for_it() -> None:
    evidence = known(*[seen(load=0, ttft_s=0.1)] * 5, *[seen(load=3, ttft_s=0.9)] * 5)
    ids = [replace(ASKED, request_id=f"req_{n}") for n in range(30)]
    assert {estimate(evidence, each, load=5).ttft_s for each in ids} == {0.9}
    assert {estimate(evidence, each).ttft_s for each in ids} == {0.1, 0.9}


def test_failures_are_evidence_too() -> None:
    found = estimate(known(*[seen(answered=False, code="upstream_error", ttft_s=None, total_s=0.2, cost_nusd=7)] * LEAST))
    assert (found.answered, found.code, found.total_s, found.cost_nusd) == (False, "upstream_error", 0.2, 7)


def test_the_request_s_own_tokens_count_as_the_other_model_would_have_them() -> None:
    """BETA's tokenizer makes a fifth more of a prompt, and its answers are twice as long; half of its prompts was cached."""
    evidence = known(*[seen()] * 10)
    known(*[seen(input_tokens=600, cached_tokens=300, output_tokens=202)] * 10, target=BETA, evidence=evidence)
    asked = replace(ASKED, answered_by=ALPHA, input_tokens=400, output_tokens=50)
    found = estimate(evidence, asked, BETA)
    assert (found.input_tokens, found.cached_tokens, found.output_tokens) == (480, 240, 100)
    assert found.total_s == 0.5 + 99 * 2.0 / 201, "at BETA's pace"
    assert estimate(evidence, replace(asked, max_tokens=60), BETA).output_tokens == 60
    assert estimate(evidence, ASKED, BETA).output_tokens == 202, "of a request that nobody answered nothing is known"


def test_the_same_model_at_another_provider_has_the_same_tokens() -> None:
    evidence = known(*[seen()] * 10)
    known(*[seen(input_tokens=600, output_tokens=202)] * 10, target=OTHER, evidence=evidence)
    found = estimate(evidence, replace(ASKED, answered_by=ALPHA, input_tokens=400, output_tokens=50), OTHER)
    assert (found.input_tokens, found.output_tokens) == (400, 50)
