"""When a share of a batch is late: a provider's job is given up at the last moment at which its rows are sure to be done in time elsewhere; live rows
that fall behind are planned anew. Pure."""

from collections.abc import Sequence

from policy.batch_plan import Running, Way, plan

CAUTION = 1.5  # how much longer than planned the rows may take elsewhere
LAG = 0.25  # of all live rows: so many fewer than planned may be done
LEAST_S = 60.0  # until their pace tells anything


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


def falls_behind(planned: int, waiting: int, elapsed_s: float, span_s: float) -> bool:
    """Whether live rows go so much more slowly than planned that another plan may be better. `span_s`: in which the planned rows were to be done."""
    if elapsed_s < LEAST_S or not planned or not waiting:
        return False
    if elapsed_s >= (1 + LAG) * span_s:
        return True
    return waiting / planned > 1 - elapsed_s / span_s + LAG
