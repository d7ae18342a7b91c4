"""What follows a failed attempt is decided by the error's class, the room that is left, and nothing else; every request ends."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import errors
from contract.errors import AttemptError, AttemptTimeout
from policy.retry import BACKOFF_S, MAX_BACKOFF_S, MAX_WAIT_S, FailOver, RetrySame, Situation, Stop, Verdict, after_failure


def every_class(root: type[AttemptError] = AttemptError) -> list[type[AttemptError]]:
    return [root, *(found for child in root.__subclasses__() for found in every_class(child))]


def make(cls: type[AttemptError], retry_after_s: float | None = None) -> AttemptError:
    if cls is AttemptTimeout:
        error: AttemptError = AttemptTimeout("headers", 60.0)
        error.retry_after_s = retry_after_s
        return error
    return cls("it failed", retry_after_s=retry_after_s)


ROOM = Situation(attempts_made=1, max_attempts=3, attempts_at_target=1, targets_left=0, jitter=0.5)
OTHERS_LEFT = msgspec.structs.replace(ROOM, targets_left=1)

# class -> with another target left, with none left
DECISIONS: dict[type[AttemptError], tuple[type[Verdict], type[Verdict]]] = {  # type: ignore[valid-type]
    errors.AttemptError: (FailOver, Stop),
    errors.ConnectFailed: (FailOver, RetrySame),
    errors.AttemptTimeout: (FailOver, Stop),
    errors.ConnectionLost: (RetrySame, RetrySame),
    errors.StreamCut: (FailOver, RetrySame),
    errors.MalformedResponse: (FailOver, Stop),
    errors.AnswerTooLarge: (FailOver, Stop),
    errors.UpstreamError: (RetrySame, RetrySame),
    errors.UpstreamOverloaded: (FailOver, RetrySame),
    errors.RateLimited: (FailOver, Stop),
    errors.QuotaExhausted: (FailOver, Stop),
    errors.UpstreamAuthFailed: (FailOver, Stop),
    errors.UpstreamModelNotFound: (FailOver, Stop),
    errors.UpstreamRejected: (Stop, Stop),
    errors.ContextLengthExceeded: (FailOver, Stop),
    errors.ContentPolicyRefused: (Stop, Stop),
    errors.EngineRefused: (FailOver, Stop),
    errors.MediaUnreachable: (FailOver, Stop),
    errors.TargetCannot: (FailOver, Stop),
    errors.EngineError: (FailOver, Stop),
    errors.EngineUnavailable: (FailOver, Stop),
    errors.EngineBusy: (FailOver, Stop),
    errors.EngineLost: (FailOver, Stop),
}
CLASSES = list(DECISIONS)
classes = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def test_the_table_names_every_class_of_the_tree() -> None:
    assert {cls for cls in every_class() if cls.__module__ == "contract.errors"} == set(DECISIONS)


@classes
def test_with_another_target_left_the_table_decides(cls: type[AttemptError]) -> None:
    assert isinstance(after_failure(make(cls), OTHERS_LEFT), DECISIONS[cls][0])


@classes
def test_with_no_other_target_the_table_decides(cls: type[AttemptError]) -> None:
    assert isinstance(after_failure(make(cls), ROOM), DECISIONS[cls][1])


@classes
def test_once_the_first_of_a_race_has_refused_nothing_more_is_tried(cls: type[AttemptError]) -> None:
    assert isinstance(after_failure(make(cls), msgspec.structs.replace(OTHERS_LEFT, refused=True)), Stop)


@classes
@pytest.mark.parametrize("targets_left", [0, 1, 5])
@pytest.mark.parametrize("made", [3, 4])
def test_nothing_is_tried_beyond_max_attempts(cls: type[AttemptError], targets_left: int, made: int) -> None:
    assert isinstance(after_failure(make(cls, 1.0), Situation(made, 3, 1, targets_left, 0.5)), Stop)


@classes
def test_a_fail_over_names_the_error_that_caused_it(cls: type[AttemptError]) -> None:
    error = make(cls)
    verdict = after_failure(error, msgspec.structs.replace(OTHERS_LEFT, attempts_at_target=2))
    assert verdict == Stop("final") or verdict == FailOver(error.reason)


@classes
def test_nothing_follows_once_the_client_has_seen_output(cls: type[AttemptError]) -> None:
    committed = msgspec.structs.replace(OTHERS_LEFT, committed=True, other_key_ready=True)
    assert after_failure(make(cls), committed) == Stop("committed")


@classes
def test_nothing_follows_when_no_time_is_left(cls: type[AttemptError]) -> None:
    assert isinstance(after_failure(make(cls), msgspec.structs.replace(OTHERS_LEFT, deadline_left_s=0.0, other_key_ready=True)), Stop)


@pytest.mark.parametrize("retry_after_s", [1.0, 600.0])
def test_another_target_is_tried_at_once_rather_than_waiting_for_a_retry_after(retry_after_s: float) -> None:
    for cls in CLASSES:
        if DECISIONS[cls][0] is not Stop and cls is not errors.ConnectionLost:
            assert isinstance(after_failure(make(cls, retry_after_s), OTHERS_LEFT), FailOver)


MENDED_BY_A_MOMENT = pytest.mark.parametrize("cls", [errors.UpstreamError, errors.ConnectionLost])


@MENDED_BY_A_MOMENT
@pytest.mark.parametrize(
    "field", [{"budget_allows": False}, {"healthy": False}, {"attempts_at_target": 2}, {"max_attempts": 2}], ids=lambda f: next(iter(f))
)
def test_the_same_target_comes_before_another_only_once_within_its_budget_while_it_is_healthy_and_another_keeps_its_turn(
    cls: type[AttemptError], field: dict[str, int]
) -> None:
    assert isinstance(after_failure(make(cls), OTHERS_LEFT), RetrySame)
    assert isinstance(after_failure(make(cls), msgspec.structs.replace(OTHERS_LEFT, **field)), FailOver)


def test_a_lost_connection_is_replaced_at_once_and_a_500_waits_a_jittered_moment() -> None:
    assert after_failure(make(errors.ConnectionLost), OTHERS_LEFT) == RetrySame(0.0, "upstream_connection_lost")
    assert after_failure(make(errors.UpstreamError), OTHERS_LEFT) == RetrySame(BACKOFF_S * 0.5, "upstream_error")


def test_a_backoff_that_the_deadline_does_not_leave_is_not_begun() -> None:
    late = {"deadline_left_s": BACKOFF_S * 0.4}
    assert isinstance(after_failure(make(errors.UpstreamError), msgspec.structs.replace(OTHERS_LEFT, **late)), FailOver)
    assert after_failure(make(errors.UpstreamError), msgspec.structs.replace(ROOM, **late)) == Stop("deadline")
    assert after_failure(make(errors.RateLimited, 2.0), msgspec.structs.replace(ROOM, deadline_left_s=1.9)) == Stop("deadline")


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if DECISIONS[cls][1] is RetrySame])
def test_no_target_is_tried_again_beyond_its_retry_budget(cls: type[AttemptError]) -> None:
    assert after_failure(make(cls), msgspec.structs.replace(ROOM, budget_allows=False)) == Stop("retry budget")


@pytest.mark.parametrize("where", [ROOM, OTHERS_LEFT], ids=["alone", "others left"])
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_another_key_mends_what_was_the_key_s_alone(cls: type[AttemptError], where: Situation) -> None:
    error = make(cls, 60.0)
    verdict = after_failure(error, msgspec.structs.replace(where, other_key_ready=True, attempts_at_target=2, budget_allows=False))
    if issubclass(cls, errors.RateLimited | errors.UpstreamAuthFailed):
        assert verdict == RetrySame(0.0, error.reason)
    else:
        assert verdict == Stop("final") or isinstance(verdict, FailOver if where is OTHERS_LEFT else Stop)


def test_a_provider_s_keys_do_not_use_up_the_attempts_of_another_target() -> None:
    last_but_one = msgspec.structs.replace(OTHERS_LEFT, attempts_made=2, attempts_at_target=2, other_key_ready=True)
    assert isinstance(after_failure(make(errors.RateLimited, 60.0), last_but_one), FailOver)
    alone = msgspec.structs.replace(last_but_one, targets_left=0)
    assert isinstance(after_failure(make(errors.RateLimited, 60.0), alone), RetrySame)


def test_a_cut_answer_that_nobody_saw_is_asked_for_again_once_where_no_other_target_is_left() -> None:
    assert isinstance(after_failure(make(errors.StreamCut), ROOM), RetrySame)
    again = msgspec.structs.replace(ROOM, attempts_made=2, attempts_at_target=2)
    assert after_failure(make(errors.StreamCut), again) == Stop("no other target")


TOO_LONG = Stop("retry-after is too long to wait for")


@pytest.mark.parametrize(
    ("retry_after_s", "expected"),
    [
        (None, Stop("rate limited")),
        (0.0, RetrySame(0.5 * BACKOFF_S, "upstream_rate_limited")),
        (1.5, RetrySame(1.5, "upstream_rate_limited")),
        (MAX_WAIT_S, RetrySame(MAX_WAIT_S, "upstream_rate_limited")),
        (MAX_WAIT_S + 0.001, TOO_LONG),
        (3600.0, TOO_LONG),
    ],
)
def test_a_429_is_waited_out_only_for_a_short_time_that_was_named(retry_after_s: float | None, expected: Verdict) -> None:
    assert after_failure(make(errors.RateLimited, retry_after_s), ROOM) == expected


def test_a_429_is_waited_out_only_once() -> None:
    assert after_failure(make(errors.RateLimited, 1.0), msgspec.structs.replace(ROOM, attempts_made=2, attempts_at_target=2)) == Stop("rate limited")


def test_a_spent_quota_is_never_waited_for() -> None:
    assert isinstance(after_failure(make(errors.QuotaExhausted, 1.0), ROOM), Stop)


@pytest.mark.parametrize("cls", [errors.UpstreamError, errors.UpstreamOverloaded, errors.ConnectionLost, errors.ConnectFailed])
def test_a_retry_after_is_the_least_that_is_waited(cls: type[AttemptError]) -> None:
    verdict = after_failure(make(cls, 2.0), ROOM)
    assert isinstance(verdict, RetrySame) and 2.0 <= verdict.delay_s <= 2.0 + BACKOFF_S


@pytest.mark.parametrize("cls", [errors.UpstreamError, errors.UpstreamOverloaded, errors.ConnectionLost, errors.ConnectFailed])
def test_a_retry_after_that_is_too_long_ends_the_request(cls: type[AttemptError]) -> None:
    assert after_failure(make(cls, MAX_WAIT_S + 1), ROOM) == TOO_LONG


@pytest.mark.parametrize(("at_target", "ceiling"), [(1, 0.25), (2, 0.5), (3, 1.0), (4, 2.0), (5, 2.0), (9, 2.0), (2000, 2.0)])
def test_the_backoff_doubles_up_to_its_bound(at_target: int, ceiling: float) -> None:
    now = Situation(attempts_made=at_target, max_attempts=10_000, attempts_at_target=at_target, targets_left=0, jitter=1.0)
    verdict = after_failure(make(errors.UpstreamError), now)
    assert isinstance(verdict, RetrySame) and verdict.delay_s == ceiling <= MAX_BACKOFF_S


def test_the_jitter_is_full() -> None:
    lowest = after_failure(make(errors.UpstreamError), msgspec.structs.replace(ROOM, jitter=0.0))
    assert isinstance(lowest, RetrySame) and lowest.delay_s == 0.0


WAITS = st.none() | st.floats(0, 10_000)
FAILURES = st.builds(make, st.sampled_from(CLASSES), WAITS)


@given(st.lists(FAILURES, min_size=12, max_size=12), st.integers(1, 10), st.integers(1, 6), st.floats(0, 1, exclude_max=True))
def test_every_request_ends_within_max_attempts_and_a_bounded_wait(failures: list[AttemptError], most: int, targets: int, jitter: float) -> None:
    index, at_target, waited_s = 0, 0, 0.0
    for made, failure in enumerate(failures, start=1):
        assert made <= most
        at_target += 1
        match after_failure(failure, Situation(made, most, at_target, targets - index - 1, jitter)):
            case Stop():
                break
            case FailOver():
                index, at_target = index + 1, 0
                assert index < targets
            case RetrySame(delay_s):
                assert 0 <= delay_s <= MAX_WAIT_S + MAX_BACKOFF_S
                assert index == targets - 1 or (at_target == 1 and made <= most - 2), "the same target comes first only once"
                waited_s += delay_s
    else:
        raise AssertionError("it never ended")
    assert waited_s <= most * (MAX_WAIT_S + MAX_BACKOFF_S)


@pytest.mark.parametrize("cls", [errors.QuotaExhausted, errors.UpstreamAuthFailed])
def test_a_key_s_own_fault_costs_no_attempt_while_another_is_ready(cls: type[AttemptError]) -> None:
    spent = Situation(1, 1, 1, 0, 0.5, other_key_ready=True, first_refusal=True)
    assert after_failure(make(cls), spent) == RetrySame(0.0, make(cls).reason, free=True)
    assert after_failure(make(cls), msgspec.structs.replace(spent, first_refusal=False)) == Stop("max_attempts")
    assert after_failure(make(cls), msgspec.structs.replace(spent, other_key_ready=False)) == Stop("max_attempts")
    assert after_failure(make(cls), msgspec.structs.replace(spent, deadline_left_s=0.0)) == Stop("max_attempts")
    assert after_failure(make(errors.RateLimited), spent) == Stop("max_attempts"), "a limit is no fault of the key's"


SECOND_TARGET = msgspec.structs.replace(OTHERS_LEFT, attempts_made=2, attempts_at_target=1)


def test_what_a_fallback_alone_refuses_another_target_may_take() -> None:
    refused = make(errors.UpstreamRejected)
    assert after_failure(refused, SECOND_TARGET) == FailOver("upstream_rejected")
    assert isinstance(after_failure(refused, msgspec.structs.replace(SECOND_TARGET, targets_left=0)), Stop)
    assert after_failure(refused, msgspec.structs.replace(SECOND_TARGET, attempts_at_target=2)) == Stop("final"), "that target has been tried before"
    assert after_failure(make(errors.ContentPolicyRefused), SECOND_TARGET) == Stop("final")


def test_a_refusal_without_a_reason_of_a_prompt_that_fills_much_of_the_context_is_no_other_model_s() -> None:
    crowded = msgspec.structs.replace(OTHERS_LEFT, crowded=True)
    assert after_failure(make(errors.UpstreamRejected), crowded) == FailOver("upstream_rejected")
    assert isinstance(after_failure(make(errors.UpstreamRejected), msgspec.structs.replace(crowded, targets_left=0)), Stop)
    assert after_failure(errors.UpstreamRejected("it failed", param="temperature"), crowded) == Stop("final")
    assert after_failure(make(errors.ContentPolicyRefused), crowded) == Stop("final")
