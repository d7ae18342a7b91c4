"""How the engines differ for who asks them: what they can do, what they must be kept from, and how they count a prompt."""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from contract.call import Dialect
from providers.local.spec import Speaks
from providers.registry import PROVIDER_KINDS
from providers.wires.facts import Facts


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """`counted`: the member of `count_path`'s answer that has a prompt's tokens. `counts_first`: the prompt's length is looked at before it is
    asked, since its computation is not interrupted. `choices`: it gives several. `asks_props`: it tells whether the model can call tools.
    `priorities`: it takes `priority`, the lower the sooner, and may interrupt who has more.
    `strict_when_forced`: the arguments of a call that is forced follow its schema only where the tool is `strict`.
    `refuses_in_stream`: with status 200, and why in its first event; what it calls when told by name it ends with `stop`.
    `forces_by_schema`: it cannot be made to call a tool, but to answer by a schema (providers/local/forcing.py).
    `tells_progress`: of a prompt, if it is asked to; only then it notices while it reads one that who asked is gone (providers/local/progress.py).
    `natives`: what it is asked in besides chat, and where; what else clients speak is translated.
    """

    facts: Facts
    count_path: str
    counted: str
    counts_first: bool
    choices: bool
    asks_props: bool
    priorities: bool
    strict_when_forced: bool = False
    refuses_in_stream: bool = False
    forces_by_schema: bool = False
    tells_progress: bool = False
    natives: Mapping[Dialect, str] = {}


MANNERS: dict[Speaks, Manner] = {
    # With a text model; what it cannot see, hear or reason about is refused before it is asked. Of several choices it counts the tokens of one.
    "llamacpp": Manner(
        facts=replace(PROVIDER_KINDS["llama.cpp"].facts, images=False, audio=False, reasoning=False, n=True),
        count_path="/v1/chat/completions/input_tokens",
        counted="input_tokens",
        counts_first=True,
        choices=False,
        asks_props=True,
        priorities=False,
        tells_progress=True,
        forces_by_schema=True,  # its grammar for tools lets a model call none
    ),
    "vllm": Manner(
        facts=PROVIDER_KINDS["vllm"].facts,
        count_path="/tokenize",
        counted="count",
        counts_first=False,
        choices=True,
        asks_props=False,
        priorities=True,
        strict_when_forced=True,  # seen with 0.32: a named call's arguments were a string, or an object of other members
        refuses_in_stream=True,
        natives={"openai_completions": "/v1/completions", "openai_embeddings": "/v1/embeddings"},
    ),
}
