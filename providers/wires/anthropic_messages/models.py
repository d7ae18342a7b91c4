"""What Anthropic's models take, by name: a request in another dialect is fitted to it, one in Anthropic's own goes as it is.

Sources: platform.claude.com/docs (extended and adaptive thinking, structured outputs, "what's new" of each model), the `anthropic` SDK's
model list. Old names are listed, for that list is closed; a name that is not in it is taken for a new model.
"""

import re
from functools import lru_cache
from typing import Literal

import msgspec


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """`thinking`: by a budget of tokens, or as the model sees fit. `sampling`: temperature and top_p together, one of them, or neither.

    `max_tokens`: what an answer may have where the client does not say, for Anthropic wants a number; thinking comes on top, up to `most`.
    """

    max_tokens: int = 8192
    most: int = 64_000
    thinking: Literal["none", "budget", "adaptive"] = "adaptive"
    sampling: Literal["both", "one", "none"] = "none"
    structured: bool = True
    prefill: bool = False
    xhigh: bool = True
    forced_choice: bool = True


_V4 = Model(most=32_000, thinking="budget", sampling="both", structured=False, prefill=True)
_V45 = Model(most=32_000, thinking="budget", sampling="one", prefill=True)
NEWEST = Model()
_OLD: tuple[tuple[str, Model], ...] = (
    (
        r"claude-(?:2|instant|3-(?:opus|sonnet|haiku))",
        Model(max_tokens=4096, most=4096, thinking="none", sampling="both", structured=False, prefill=True),
    ),
    (r"claude-3[-.]5", Model(most=8192, thinking="none", sampling="both", structured=False, prefill=True)),
    (r"claude-3[-.]7", _V4),
    (r"claude-(?:(?:opus|sonnet)-4|4-(?:opus|sonnet))(?:[-@.](?:0|20\d{6})|:|@|$)", _V4),
    (r"claude-(?:opus-4[-.]1|(?:opus|sonnet|haiku)-4[-.]5)(?!\d)", _V45),
    (r"claude-(?:opus|sonnet)-4[-.]6(?!\d)", Model(sampling="one", xhigh=False)),
    (r"claude-(?:fable|mythos)-5[-.][1-9](?!\d)", Model(forced_choice=False)),
)
_TABLE = tuple((re.compile(names), model) for names, model in _OLD)


@lru_cache(maxsize=1024)
def model_of(name: str) -> Model:
    """By a name as Anthropic writes it, or with what other hosts put around it."""
    return next((model for names, model in _TABLE if names.search(name)), NEWEST)
