"""Live statistics of one target: counts, and times in log-scale buckets. No raw samples, a few KB, a few microseconds to record."""

from math import floor, log2

STEPS = 4  # buckets per doubling: a percentile is right within 19 %
LEAST, MOST = 2.0**-30, 2.0**30  # a nanosecond, 34 years: what is beyond counts as the nearer one


class LogBuckets:
    """Counts of positive values by size. Adding two of them is adding their counts."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0

    def add(self, value: float) -> None:
        bucket = floor(log2(min(MOST, max(LEAST, value))) * STEPS)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total += 1

    def quantile(self, share: float) -> float | None:
        """The upper edge of the bucket that holds the `share` quantile; None when nothing was added."""
        if not self.total:
            return None
        left = share * self.total
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                break
        return float(2.0 ** ((bucket + 1) / STEPS))


class TargetStats:
    """What one target did since the gateway started. Seconds. Failures are counted by error code."""

    __slots__ = ("attempts", "failures", "output_tokens", "total_s", "ttft_s")

    def __init__(self) -> None:
        self.attempts = 0
        self.failures: dict[str, int] = {}
        self.output_tokens = 0
        self.ttft_s = LogBuckets()
        self.total_s = LogBuckets()

    def succeeded(self, ttft_s: float, total_s: float, output_tokens: int) -> None:
        self.attempts += 1
        self.output_tokens += output_tokens
        self.ttft_s.add(ttft_s)
        self.total_s.add(total_s)

    def failed(self, code: str) -> None:
        self.attempts += 1
        self.failures[code] = self.failures.get(code, 0) + 1

    def summary(self) -> dict[str, object]:
        """Plain values for a report: times in milliseconds."""

        def ms(buckets: LogBuckets, share: float) -> float | None:
            value = buckets.quantile(share)
            return None if value is None else round(value * 1000, 1)

        return {
            "attempts": self.attempts,
            "failures": dict(self.failures),
            "output_tokens": self.output_tokens,
            "ttft_p50_ms": ms(self.ttft_s, 0.5),
            "ttft_p95_ms": ms(self.ttft_s, 0.95),
            "total_p50_ms": ms(self.total_s, 0.5),
            "total_p95_ms": ms(self.total_s, 0.95),
        }
