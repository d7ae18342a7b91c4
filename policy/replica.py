"""Which of several engines that are alike a request goes to: where its prompt's begin is cached, as long as that one is not much busier. Pure."""

from collections.abc import Sequence
from zlib import crc32

import msgspec

from policy.ask import Ask

MORE_REQUESTS = 3  # that a replica may have beyond the idlest, one for each
SLOTS_EACH = 4  # of its slots, and one at least, and
MORE_TIMES = 1.5  # so many times as many, for a prompt of which it knows
ENOUGH = 0.5  # of it, or more; for less as much less. A cache that does not hold what it was thought to knows less of all
WORTH = 0.1  # of the prompt that it must know


class Replica(msgspec.Struct, frozen=True):
    """`load`: requests in it. `wait_s`: in its queue. `slots`: 0: not known."""

    name: str
    load: int
    wait_s: float
    slots: int = 0


def choose(replicas: Sequence[Replica], ask: Ask) -> str:
    """The name of one. Alike ones take turns, by the request's id alone."""
    least_s, idlest = min(each.wait_s for each in replicas), min(each.load for each in replicas)
    ready = [each for each in replicas if each.wait_s <= least_s]
    known = [each for each in ready if ask.warm.get(each.name, 0) >= max(1.0, WORTH * ask.prompt_tokens)]
    warm = [each for each in known if each.load <= _most(idlest, ask.warm[each.name], ask.prompt_tokens, each.slots)]
    if warm:
        return max(warm, key=lambda each: (ask.warm[each.name], -each.load)).name
    least = min(each.load for each in ready)
    alike = [each.name for each in ready if each.load == least]
    return alike[crc32(ask.request_id.encode()) % len(alike)]


def _most(idlest: int, known_tokens: int, prompt_tokens: int, slots: int) -> float:
    """Requests that one may have that knows so much of a prompt."""
    share = min(1.0, known_tokens / (ENOUGH * max(1, prompt_tokens)))
    more = min(MORE_REQUESTS, max(1, slots // SLOTS_EACH)) if slots else MORE_REQUESTS
    return max(idlest + more * share, idlest * (1.0 + (MORE_TIMES - 1.0) * share))
