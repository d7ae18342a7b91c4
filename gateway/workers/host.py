"""What a worker has of its parent: its number, and the host's engines with their slots, which all workers share."""

from collections.abc import Mapping
from typing import NamedTuple

from gateway.metrics.gathering import Others
from providers.local.port import Slots, Supervisor


class SharedEngine(NamedTuple):
    supervisor: Supervisor
    slots: Slots


class Host(NamedTuple):
    """`worker`: its number, from 1. `others`: what it and the others counted; None: nobody asks."""

    worker: int
    engines: Mapping[str, SharedEngine]
    others: Others | None = None
