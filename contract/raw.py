"""JSON that is kept as it came. `ABSENT` stands for none of it, and is false: msgspec reads nothing but null into `Raw | None`."""

from msgspec import Raw

ABSENT = Raw()
