"""The past as a replay meets it: attempts in the order in which they began, each request whole at its first one, and evidence of what comes soon.

Reads ahead of the moment by as long as an attempt may stand for a request, or MOST_AHEAD attempts: no more is in memory.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush

import msgspec

from contract.usage import BYTES_PER_TOKEN
from gateway.replay.outcome import cost_of
from gateway.warm import NOBODYS
from ledger.history import Recorded
from policy.evidence import Evidence, Seen, Target, load_at

MOST_AHEAD = 100_000


class Event(msgspec.Struct, frozen=True):
    """An attempt begins. `load`: how many ran at its target then. `request`: every attempt of its request, where it is the first; else None."""

    row: Recorded
    load: int
    request: list[Recorded] | None


class Past:
    """`origin_us`: where the replay's clock begins."""

    def __init__(self, rows: Iterable[Recorded], evidence: Evidence, ahead_s: float, origin_us: int) -> None:
        self._rows = iter(rows)
        self._evidence = evidence
        self._ahead_us = int(ahead_s * 1e6)
        self._origin_us = origin_us
        self._ahead: deque[tuple[Recorded, int]] = deque()
        self._requests: dict[str, list[Recorded]] = {}
        self._ends: dict[Target, list[int]] = {}
        self._over = False

    def __iter__(self) -> Iterator[Event]:
        ahead = self._ahead
        while self._read_on():
            row, load = ahead.popleft()
            yield Event(row, load, self._requests.pop(row.request_id, None) if row.attempt <= 1 else None)

    def _read_on(self) -> bool:
        """Whether there is one more."""
        ahead = self._ahead
        while not self._over:
            if ahead and (len(ahead) >= MOST_AHEAD or ahead[-1][0].started_at_us > ahead[0][0].started_at_us + self._ahead_us):
                break
            row = next(self._rows, None)
            if row is None:
                self._over = True
                break
            self._take(row)
        return bool(ahead)

    def _take(self, row: Recorded) -> None:
        if row.attempt <= 1:
            self._requests[row.request_id] = [row]
        elif (request := self._requests.get(row.request_id)) is not None:
            request.append(row)
        load = self._load(row)
        self._ahead.append((row, load))
        if (seen := seen_of(row, load, self._origin_us)) is not None:
            self._evidence.add(row.key, row.stream, seen)

    def _load(self, row: Recorded) -> int:
        ends = self._ends.setdefault(row.key, [])
        while ends and ends[0] <= row.started_at_us:
            heappop(ends)
        load = len(ends)
        if row.attempt and row.end_us is not None:
            heappush(ends, row.started_at_us + row.end_us)
        return load


def prompt_tokens_of(row: Recorded) -> int:
    """Estimated, as decisions are made by."""
    return row.bytes_request // BYTES_PER_TOKEN if row.prompt_tokens_estimated is None else row.prompt_tokens_estimated


def seen_of(row: Recorded, load: int, origin_us: int) -> Seen | None:
    """What an attempt tells of its target; None: nothing."""
    answered = row.status == "ok"
    if not row.attempt or row.end_us is None or not (answered or row.status in ("failed", "cut")):
        return None
    code = row.error_code or ""
    if not answered and (not code or code in NOBODYS):
        return None
    waited_us = row.queue_us or 0
    began_us = row.first_token_us if row.stream else None
    if answered and row.stream and began_us is None:
        return None  # nothing says when it began
    return Seen(
        (row.started_at_us - origin_us) / 1e6,
        answered,
        code,
        None if began_us is None else (began_us - waited_us) / 1e6,
        (row.end_us - waited_us) / 1e6,
        load_at(load),
        prompt_tokens_of(row),
        row.input_tokens,
        row.cache_read or 0,
        (row.cache_write_5m or 0) + (row.cache_write_1h or 0),
        row.output_tokens,
        cost_of(row),
    )
