"""When a provider's job is given up, so that what it has not done is still done in time elsewhere: at the last moment at which that is sure. Pure."""

from collections.abc import Sequence

from policy.batch_plan import Running, Way, plan

CAUTION = 1.5  # how much longer than planned the rows may take elsewhere


def spare_s(window_s: float) -> float:
    """For the job to be stopped and what it did to be read, beside the time that its rows need elsewhere."""
    return min(900.0, 30.0 + window_s / 100)


def must_move(share: Running, left_s: float, window_s: float, ways: Sequence[Way]) -> bool:
    """Whether the rows of a job must go elsewhere now. `left_s`: until the batch's deadline; `window_s`: the whole time that it was given.

    A job that by its own speed ends in time goes on. One that may yet end in time goes on while the other ways could still do its rows; where
    nobody knows how long they take, or they could not have done them from the start, until the spare time begins.
    """
    spare = spare_s(window_s)
    if share.speed() is not None and share.ends_s() <= left_s - spare:
        return False
    others = [way for way in ways if way.kind != "provider_batch"]
    needed_s = CAUTION * (plan(share.left, left_s, others).ends_s or 0.0) + spare
    return left_s <= (needed_s if needed_s < window_s else spare)
