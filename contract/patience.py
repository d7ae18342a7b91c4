"""How long an attempt may keep its caller waiting, beside what its target is given anyway."""

import msgspec


class Patience(msgspec.Struct, frozen=True):
    """Seconds. The first five replace the target's own clocks (`providers.http.port.Clocks`); None: the target's own.

    `first_output_s`: at most so long until the first output, because another target waits. `stall_s`: likewise between two pieces.
    `queue_s`: at most so long in the target's own queue, because another one waits. `left_s`: what is left until the request's deadline.
    `spills`: whether another target is left, which has the request when this one refuses it.
    """

    connect_s: float | None = None
    headers_s: float | None = None
    first_token_s: float | None = None
    idle_s: float | None = None
    total_s: float | None = None
    first_output_s: float | None = None
    stall_s: float | None = None
    left_s: float | None = None
    queue_s: float | None = None
    spills: bool = False
