"""Anthropic's stop reasons and ours (platform.claude.com/docs/en/api/handling-stop-reasons)."""

from contract.finish import Finish, FinishReason

REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause_turn": "paused",
    "compaction": "paused",  # beta: sent back, the answer goes on
}
WORDS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "paused": "pause_turn",
}


def decode_finish(native: str | None, stop_sequence: str | None = None) -> Finish:
    """A word that the table does not know stays itself, as `unknown`."""
    return Finish(REASONS.get(native or "", "unknown"), native or None, stop_sequence)


def encode_finish(finish: Finish) -> tuple[str, str | None]:
    """Anthropic's word and the sequence that matched; for what it has no word for, the provider's own."""
    if finish.stop_sequence is not None:
        return "stop_sequence", finish.stop_sequence
    if finish.native is not None and REASONS.get(finish.native) == finish.reason:
        return finish.native, None
    return WORDS.get(finish.reason) or finish.native or finish.reason, None
