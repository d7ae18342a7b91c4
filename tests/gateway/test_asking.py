"""What of a body is a medium, and what is text that looks like one."""

from typing import Any

import msgspec
import pytest

from gateway.asking import MEDIUM_TOKENS, most_prompt_tokens, prompt_tokens_about
from gateway.peek import read_chat_call

BASE64 = "A" * 400_000
WORDS = "plain words of a report " * 12_500
PICTURE = f"data:image/png;base64,{BASE64}"
MEDIA: list[Any] = [
    {"type": "image_url", "image_url": {"url": PICTURE}},
    {"type": "input_image", "image_url": PICTURE},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}},
    {"type": "input_audio", "input_audio": {"format": "wav", "data": BASE64}},
    {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{BASE64}"}},
]
TEXTS: list[Any] = [
    PICTURE,
    f"see this: {PICTURE}",
    f"data:image/png;base64,{WORDS}",
    {"type": "text", "text": PICTURE},
    {"type": "text", "text": msgspec.json.encode(MEDIA[0]).decode()},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": WORDS}},
    {"type": "file", "file": {"filename": "a.txt", "file_data": f"data:text/plain;base64,{BASE64}"}},
]


def tokens(part: Any) -> tuple[int, int]:
    """About, and at most."""
    content = part if isinstance(part, str) else [part]
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": content}]})
    call = read_chat_call("req_1", body, [])
    return prompt_tokens_about(call), most_prompt_tokens(call)


@pytest.mark.parametrize("part", MEDIA, ids=lambda part: part["type"])
def test_a_medium_counts_as_one_whatever_its_bytes(part: Any) -> None:
    about, most = tokens(part)

    assert MEDIUM_TOKENS <= about < MEDIUM_TOKENS + 200 and most < 20_000


@pytest.mark.parametrize("part", TEXTS, ids=range(len(TEXTS)))
def test_text_counts_by_its_length_whatever_it_looks_like(part: Any) -> None:
    about, most = tokens(part)

    assert about >= 70_000 and most >= 300_000
