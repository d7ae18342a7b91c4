"""What a decision needs to know of a request."""

from collections.abc import Mapping

import msgspec

NOTHING: Mapping[str, int] = {}


class Ask(msgspec.Struct, frozen=True):
    """One request, as far as routing cares.

    `prompt_tokens`: estimated from its length. `max_tokens`: the client's own limit on the answer. `needs`: what not every target can do
    (`tools`, `images`, `audio`, `files`, `n`). `warm`: target -> how many of the prompt's tokens its prefix cache is likely to hold,
    where a prompt that begins alike was answered there; by what such prompts were told before.
    `choices`: answers that it wants, each as long as one. `batch`: it may wait, and is charged the batch price.
    `planned`: the target that the plan of its batch has it for: first, where it is ready.
    """

    request_id: str
    streamed: bool
    prompt_tokens: int
    max_tokens: int | None = None
    needs: frozenset[str] = frozenset()
    bound_to: str | None = None
    warm: Mapping[str, int] = NOTHING
    batch: bool = False
    choices: int = 1
    planned: str | None = None
