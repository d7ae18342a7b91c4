"""Which target's prefix cache is likely to hold the begin of a prompt: growing prefixes by their hash, and where each was last answered.

Conversations find their way back by it, and so does any prompt that begins like another (a long system prompt, say).
"""

from zlib import crc32

FIRST = 256  # bytes of the shortest prefix; each next one is twice as long
LONGEST = 1 << 20
TTL_S = 300.0  # how long providers keep a prefix at least (OpenAI 5-10 min, Anthropic 5 min)
MAX_PREFIXES = 50_000
NOWHERE: dict[str, float] = {}


def prefixes(prompt: bytes | memoryview) -> tuple[int, ...]:
    """The hashes of a prompt's prefixes of 256, 512, 1024 … bytes, the shortest first."""
    found = []
    at, length, value = 0, FIRST, 0
    whole = min(len(prompt), LONGEST)
    while length <= whole:
        value = crc32(prompt[at:length], value)
        found.append(value)
        at, length = length, length * 2
    return tuple(found)


class Affinity:
    """The map of one model. Bounded; the oldest go first."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[int, dict[str, float]] = {}  # prefix -> target -> when it was answered there

    def warm(self, found: tuple[int, ...], now: float) -> dict[str, int]:
        """Target -> how many bytes of the prompt its cache is likely to hold. Targets that hold none are left out."""
        held: dict[str, int] = {}
        for place, value in enumerate(found):
            for target, at in self._seen.get(value, NOWHERE).items():
                if now - at < TTL_S:
                    held[target] = FIRST << place
        return held

    def note(self, found: tuple[int, ...], target: str, now: float) -> None:
        """A prompt with those prefixes was answered by that target."""
        seen = self._seen
        for value in found:
            where = seen.pop(value, None)
            if where is None:
                where = {}
            where[target] = now
            seen[value] = where
        while len(seen) > MAX_PREFIXES:
            del seen[next(iter(seen))]
