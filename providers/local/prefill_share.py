"""How the engine time of an answer that came in one piece is divided between its prompt and itself. Pure."""

from contract.usage import Usage
from providers.port import Marks
from providers.reading import Reading


def prefill_share(marks: Marks, usage: Usage | None, reading: Reading | None) -> float | None:
    """How much of a whole answer's time went into reading its prompt: until its first token, where that was seen; else by its tokens and how long
    the engine took for one of each kind. None: not known."""
    began, first, ended = marks.admitted, marks.first_token, marks.ended
    if began is not None and first is not None and ended is not None and began <= first < ended:
        return (first - began) / (ended - began)
    if usage is None or reading is None or reading.prompt_token_s is None or reading.output_token_s is None:
        return None
    prefill_s, decode_s = (usage.input_uncached or 0) * reading.prompt_token_s, (usage.output_total or 0) * reading.output_token_s
    return prefill_s / (prefill_s + decode_s) if prefill_s + decode_s else None
