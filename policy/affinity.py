"""Which target's prefix cache is likely to hold the begin of a prompt: growing prefixes by their hash, and where each was last answered.

Conversations find their way back by it, and so does any prompt that begins like another (a long system prompt, say).
"""

from zlib import crc32

FIRST = 256  # bytes of the shortest prefix; each next one is twice as long
LONGEST = 1 << 20
TTL_S = 300.0  # how long providers keep a prefix at least (OpenAI 5-10 min, Anthropic 5 min)
MAX_PREFIXES = 50_000
BELIEVED = 1000.0  # tokens that count as found before anything is seen
HALF_LIFE_S = 600.0
FADE_EVERY_S = 5.0
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


class WarmHits:
    """How much of a prompt one target's cache really holds, for each token that was thought to be warm there. Fades; believed until it is seen.

    It may be more than 1: the longest prefix that is known is up to half of what a prompt has in common with the one before it.
    """

    __slots__ = ("_at", "_expected", "_found")

    def __init__(self) -> None:
        self._expected = self._found = BELIEVED
        self._at = 0.0

    def share(self, now: float) -> float:
        self._fade(now)
        return self._found / self._expected

    def seen(self, now: float, expected_tokens: int, cached_tokens: int) -> None:
        """An answer's own account of a prompt of which so many tokens should have been warm."""
        self._fade(now)
        self._expected += expected_tokens
        self._found += cached_tokens

    def _fade(self, now: float) -> None:
        """Back towards what is believed: caches come and go."""
        if now - self._at > FADE_EVERY_S:
            kept = 0.5 ** min(50.0, (now - self._at) / HALF_LIFE_S)
            self._expected = BELIEVED + (self._expected - BELIEVED) * kept
            self._found = BELIEVED + (self._found - BELIEVED) * kept
            self._at = now


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
