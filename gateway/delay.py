"""Recovery `hold`: the client's stream runs a while behind the upstream's, so that an early cut is mended before anybody sees it."""

from collections import deque
from math import inf

MOST_BYTES = 8 << 20  # held at once; beyond it the oldest are released


class DelayLine:
    """Pieces go in as they come and come out `delay_s` later, but only when another one comes that is more than a sign of life: a stream that
    stalls releases nothing.
    """

    __slots__ = ("_delay_s", "_held", "_pieces")

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._held = 0

    def push(self, piece: bytes, now: float, progressed: bool = True) -> bytes:
        """Takes one piece in and gives what is due. Not `progressed`: it is a mere sign of life, and gives nothing unless too much is held."""
        pieces = self._pieces
        pieces.append((now, piece))
        self._held += len(piece)
        due_s = now - self._delay_s if progressed else -inf
        due = []
        while pieces and (pieces[0][0] <= due_s or self._held > MOST_BYTES):
            _, oldest = pieces.popleft()
            self._held -= len(oldest)
            due.append(oldest)
        return b"".join(due)

    def drain(self) -> bytes:
        """All that is left: the answer is whole, or nothing more can be mended."""
        rest = b"".join(piece for _, piece in self._pieces)
        self._pieces.clear()
        self._held = 0
        return rest
