"""OpenAI's finish reasons and ours."""

from contract.finish import Finish, FinishReason

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "model_length": "length",  # Mistral's: the model's context is full
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "completed": "stop",  # xAI
    "eos": "stop",  # Together
    "eos_token": "stop",  # TGI
    "stop_sequence": "stop",  # TGI
}
# no finish, but a failure: OpenRouter and Mistral; DeepSeek; vLLM
FAILED = frozenset({"error", "insufficient_system_resource", "abort"})
_FINISHES = {native: Finish(reason, native) for native, reason in _REASONS.items()}


def decode_finish(native: str) -> Finish:
    """A word that the table does not know stays itself, as `unknown`."""
    return _FINISHES.get(native) or Finish("unknown", native or None)


def encode_finish(finish: Finish) -> str:
    """OpenAI's word; for what OpenAI has no word for, the provider's own."""
    if finish.reason in ("unknown", "paused"):
        return finish.native or finish.reason
    return finish.reason
