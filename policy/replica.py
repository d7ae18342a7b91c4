"""Which of several engines that are alike a request goes to: where its prompt's begin is cached, as long as that one is not much busier. Pure."""

from collections.abc import Sequence
from zlib import crc32

import msgspec

from policy.ask import Ask

MORE_REQUESTS = 3  # that a replica may have beyond the idlest, and
MORE_TIMES = 1.5  # so many times as many, for a prompt that it knows
WORTH = 0.1  # of the prompt that it must know


class Replica(msgspec.Struct, frozen=True):
    """`load`: requests in it. `wait_s`: in its queue."""

    name: str
    load: int
    wait_s: float


def choose(replicas: Sequence[Replica], ask: Ask) -> str:
    """The name of one. Alike ones take turns, by the request's id alone."""
    least_s, idlest = min(each.wait_s for each in replicas), min(each.load for each in replicas)
    most = max(idlest + MORE_REQUESTS, idlest * MORE_TIMES)
    ready = [each for each in replicas if each.wait_s <= least_s]
    warm = [each for each in ready if each.load <= most and ask.warm.get(each.name, 0) >= max(1.0, WORTH * ask.prompt_tokens)]
    if warm:
        return max(warm, key=lambda each: (ask.warm[each.name], -each.load)).name
    least = min(each.load for each in ready)
    alike = [each.name for each in ready if each.load == least]
    return alike[crc32(ask.request_id.encode()) % len(alike)]
