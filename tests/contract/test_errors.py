"""Which of several failures a caller hears of."""

import pytest

from contract import errors as e


def failed(*attempts: tuple[str, type[e.AttemptError]]) -> e.AttemptsExhausted:
    found = []
    for target, cls in attempts:
        error = cls(cls.__name__)
        error.target = target
        found.append(error)
    return e.AttemptsExhausted(found)


@pytest.mark.parametrize(
    ("attempts", "told"),
    [
        ([("a", e.UpstreamOverloaded)], e.UpstreamOverloaded),
        ([("a", e.UpstreamOverloaded), ("b", e.UpstreamError)], e.UpstreamError),
        ([("a", e.UpstreamOverloaded), ("b", e.UpstreamRejected)], e.UpstreamOverloaded),
        ([("a", e.UpstreamOverloaded), ("b", e.UpstreamRejected), ("c", e.UpstreamRejected)], e.UpstreamOverloaded),
        ([("a", e.UpstreamOverloaded), ("b", e.TargetCannot), ("c", e.ContextLengthExceeded)], e.UpstreamOverloaded),
        ([("a", e.UpstreamOverloaded), ("b", e.ContentPolicyRefused)], e.ContentPolicyRefused),
        ([("a", e.UpstreamError), ("a", e.UpstreamRejected)], e.UpstreamRejected),
        ([("a", e.UpstreamRejected)], e.UpstreamRejected),
        ([("a", e.ContextLengthExceeded), ("b", e.UpstreamError)], e.UpstreamError),
        ([("a", e.TargetCannot), ("b", e.EngineRefused)], e.EngineRefused),
    ],
)
def test_a_caller_hears_of_the_last_failure_that_says_something_of_its_request(
    attempts: list[tuple[str, type[e.AttemptError]]], told: type[e.AttemptError]
) -> None:
    error = failed(*attempts)
    assert type(error.last) is told and error.reason == told.code


def test_where_the_time_was_over_amid_failures_the_newest_of_them_is_named_too() -> None:
    late = e.AttemptTimeout("total", 0.003)
    told = e.AttemptsExhausted([e.UpstreamOverloaded("first"), e.UpstreamError("the provider failed (HTTP 500)"), late])
    assert told.reason == "upstream_total_timeout"
    assert told.message == f"{late.message}; the attempt before it failed: the provider failed (HTTP 500) (upstream_error)"
    assert e.AttemptsExhausted([late]).message == late.message
