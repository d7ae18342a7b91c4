"""What a worker has of its parent: its number, and the host's engines with their slots, which all workers share."""

from collections.abc import Mapping
from typing import NamedTuple

from providers.local.port import Slots, Supervisor


class SharedEngine(NamedTuple):
    supervisor: Supervisor
    slots: Slots


class Host(NamedTuple):
    """`worker`: its number, from 1."""

    worker: int
    engines: Mapping[str, SharedEngine]
