"""What clients of other dialects were recorded to ask, asked of Bedrock: Amazon's model of its API takes it, or it is told what is lost."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from contract.errors import InvalidRequest, TargetCannot
from providers.registry import PROVIDER_KINDS
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES
from providers.wires.bedrock import BEDROCK
from providers.wires.facts import honoured
from providers.wires.losses import Losses
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.openai_responses import OPENAI_RESPONSES
from providers.wires.port import Dialect
from tests.providers.wires.bedrock_oracle import faults

FOLDER = os.environ.get("TURNOUT_ACCEPTANCE")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="needs TURNOUT_ACCEPTANCE")
FACTS = PROVIDER_KINDS["bedrock"].facts
MODELS = ["us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-opus-4-8", "us.amazon.nova-pro-v1:0", "openai.gpt-oss-120b-1:0"]
# the most of a dialect's requests that hold what Bedrock has no place for: other providers' own tools, reasoning and fields
CASES: list[tuple[str, Dialect, int]] = [
    ("openai.chat", OPENAI_CHAT, 55),
    ("anthropic.messages", ANTHROPIC_MESSAGES, 110),
    ("openai.responses", OPENAI_RESPONSES, 115),
]
ITS_OWN_FAULT = ["inferenceConfig.temperature, value: -1.0", ".inferenceConfig.temperature is out of range"]  # a client that asked for a refusal
Json = dict[str, Any]


def recorded(op: str) -> list[Json]:
    assert FOLDER is not None
    with gzip.open(Path(FOLDER) / "visible.jsonl.gz", "rt") as lines:
        return [row for row in map(json.loads, lines) if row["op"] == op]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("op", "dialect", "most"), CASES, ids=[op for op, _, _ in CASES])
def test_a_recorded_request_of_another_dialect_is_one_that_amazon_s_model_takes(op: str, dialect: Dialect, most: int, model: str) -> None:
    found: list[tuple[str, str]] = []
    lossy = 0
    rows = recorded(op)
    for row in rows:
        losses = Losses()
        try:
            request = dialect.decode_request(json.dumps(row["request"]["body"]).encode())
            body = json.loads(BEDROCK.encode_request(honoured(request, FACTS, losses), model, FACTS, losses))
        except (InvalidRequest, TargetCannot):
            lossy += 1
            continue
        lossy += bool(losses.fatal)
        found += [(row["id"], fault) for fault in faults("Converse", body) if not any(own in fault for own in ITS_OWN_FAULT)]
    assert found == []
    assert lossy <= most and len(rows) > 190
