"""How many tokens a prompt has, about, where nobody counts them: by the length of its JSON, but for what a model does not read as text."""

from collections.abc import Iterable

from contract import requests as r
from contract.usage import BYTES_PER_TOKEN

IMAGE_TOKENS = 1600  # at most, of an image in Anthropic's usual resolution (platform.claude.com/docs/en/build-with-claude/vision)


def estimate(request: r.ChatRequest, size: int) -> int:
    """`size`: of the request's body, in bytes."""
    pictures = [len(picture.data or "") for message in request.messages for picture in _pictures(message.parts)]
    return (size - sum(pictures)) // BYTES_PER_TOKEN + IMAGE_TOKENS * len(pictures)


def _pictures(parts: Iterable[r.Part]) -> Iterable[r.ImagePart]:
    for part in parts:
        if isinstance(part, r.ImagePart):
            yield part
        elif isinstance(part, r.ToolResultPart):
            yield from _pictures(part.content)
