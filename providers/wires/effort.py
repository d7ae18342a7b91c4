"""How much to reason: a word in one format, a number of tokens in another."""

from contract.requests import Reasoning

BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768}
_OTHER_WORDS = {"max": "xhigh"}
WORDS = frozenset({None, "none", "default", *BUDGETS, *_OTHER_WORDS})  # another word means nothing to anybody but its own provider


def effort_of(reasoning: Reasoning) -> str | None:
    """OpenAI's word: the one given, or the largest whose budget is not above the one given; None: left to the model."""
    if reasoning.effort is not None:
        return _OTHER_WORDS.get(reasoning.effort, reasoning.effort)
    if reasoning.budget_tokens is None:
        return None
    return next((word for word, budget in reversed(BUDGETS.items()) if budget <= reasoning.budget_tokens), "minimal")


def budget_of(reasoning: Reasoning) -> int | None:
    """Tokens: the number given, or the word's; None: left to the model, or off."""
    if reasoning.budget_tokens is not None:
        return reasoning.budget_tokens
    return None if reasoning.effort is None else BUDGETS.get(_OTHER_WORDS.get(reasoning.effort, reasoning.effort))
