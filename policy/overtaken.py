"""What a wait counts as that another runner's answer cut short: all that is known is that it would have been longer. Pure.

Left out, a target that always loses would never be known as slow. Counted as it was, each would look quicker than it is.
"""

from policy.forecast import KNOWN, Forecast

MOSTLY = 0.5  # of a target's answers take longer: what is beyond is known by such waits alone
NOTHING_NEW = 0.9  # of them do: it was not expected by then
AT_LEAST = 2.0  # times the wait, where nothing says how much longer it would have been


def counts_as(forecast: Forecast, waited_s: float) -> float | None:
    """Seconds; None: it says nothing new. Where the target is known, the middle of its longer waits; else twice the wait at least."""
    waits, within = forecast.waits, forecast.within(waited_s)
    if waits is None or within is None:
        return AT_LEAST * waited_s
    later, known = 1.0 - within, forecast.samples >= KNOWN
    if known and later > NOTHING_NEW:
        return None
    least_s = AT_LEAST * waited_s if later > MOSTLY or not known else waited_s
    return max(least_s, waits.quantile(1.0 - later / 2) or 0.0)
