"""What a whole answer's output comes to, where its provider does not tell."""

import json
from typing import Any

import pytest

from providers.wires.answer import output_about

TEXT = "word " * 80  # 400 characters


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [{"message": {"content": TEXT}}]},
        {"content": [{"text": TEXT}], "tools": ["x" * 10_000]},
        {"output": [{"content": [{"text": TEXT}]}], "instructions": "x" * 10_000},
    ],
)
def test_the_output_alone_is_counted(answer: Any) -> None:
    assert output_about(json.dumps(answer).encode()) == 100


@pytest.mark.parametrize(
    "body", [b'{"data":[{"embedding":[1,2]}]}', b"[]", b"5", b"{", b'{"output":"\xff"}', b'{"output":' + b"[" * 100_000, b'{"output":[]}']
)
def test_an_answer_of_another_kind_has_none(body: bytes) -> None:
    assert output_about(body) == 0
