"""One call at the edge: the client's bytes, with only the few top-level fields read that routing needs.

It is what every attempt starts from. A target of the same dialect gets these bytes with the fields we own rewritten;
a target of another dialect gets an encoded `ChatRequest`.
"""

from typing import Literal

import msgspec

from contract.flow import NOBODY, Flow

Dialect = Literal[
    "openai_chat", "openai_completions", "openai_responses", "anthropic_messages", "anthropic_count_tokens", "openai_embeddings", "passthrough"
]

Drop = Literal["nothing", "hints", "everything"]  # which of the fields that a target cannot honour are left out, and named, instead of refused


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """`fields` are the body's top-level members in the client's order, each still the client's JSON.

    `path`: what follows the base URL at a provider of the same dialect. `headers`: those of the client that go on to such a provider.
    `continues`: the id of an earlier answer that we keep, whose history now stands in the body.
    `answered`: the text with which the body ends that is the answer's own beginning, told to the client already: it is to be gone on from.
    `content_type`: the body's, where it is not JSON. `may_hold_state`: False where nothing in the body can be of an earlier answer (a signature,
    a kept answer's id …), so that nobody else looks through it. `flow`: whose turn it takes where it has to wait.
    `names`: of a long body, the short strings in it, its members' names among them; of a short one, none, where none stands in it that anybody looks
    for. None: nobody looked. `longest`: bytes of a long body's longest string.
    """

    request_id: str
    dialect: Dialect
    model: str
    stream: bool
    include_usage: bool
    choices: int
    body: bytes
    fields: dict[str, msgspec.Raw]
    path: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = b"application/json"
    may_hold_state: bool = True
    continues: str | None = None
    answered: str = ""
    names: frozenset[bytes] | None = None
    longest: int = 0
    flow: Flow = NOBODY
