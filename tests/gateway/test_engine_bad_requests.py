"""Bad requests to the embedded engine: 400 for who sends them, and nothing for others."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway.conftest import Gateway, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
BAD, GOOD = "key-of-who-asks-badly", "key-of-another-team"
CONFIG = f"""
state: {{{{database: "sqlite:///{{folder}}/turnout.db"}}}}
engines: {{{{cpu: {{{{kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: 2, threads: 1}}}}}}}}
models: {{{{local: {{{{targets: [{{{{engine: cpu}}}}]}}}}}}}}
teams: {{{{one: {{{{keys: [{BAD}]}}}}, two: {{{{keys: [{GOOD}]}}}}}}}}
"""
MESSAGES = [{"role": "user", "content": "Hi"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("bad")
    async with running(CONFIG.format(folder=folder), folder) as gateway:
        yield gateway


async def answered(gateway: Gateway) -> bool:
    return (await gateway.post({"model": "local", "messages": MESSAGES, "max_tokens": 1}, key=GOOD)).status_code == 200


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": 40000}, "top_logprobs"),
        ("/v1/chat/completions", {"n_probs": 49152}, "n_probs"),
        ("/v1/chat/completions", {"temperature": -1}, "temperature"),
        ("/v1/chat/completions", {"top_p": 5}, "top_p"),
        ("/v1/chat/completions", {"max_tokens": 0}, "max_tokens"),
        ("/v1/chat/completions", {"presence_penalty": 99}, "presence_penalty"),
        ("/v1/chat/completions", {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        ("/v1/chat/completions", {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "nope"}}}, "tool_choice"),
        ("/v1/completions", {"prompt": "Hi", "logprobs": 40000}, "logprobs"),
        ("/v1/completions", {"prompt": [1, 2, 3]}, "prompt"),
        ("/v1/responses", {"input": "Hi", "top_logprobs": 40000, "include": ["message.output_text.logprobs"]}, "top_logprobs"),
        ("/v1/responses", {"input": "Hi", "max_output_tokens": 0}, "max_output_tokens"),
        ("/v1/messages", {"max_tokens": 0}, "max_tokens"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_bad_request_is_400_for_its_sender_and_nothing_for_others(
    gateway: Gateway, path: str, fields: dict[str, Any], param: str, stream: bool
) -> None:
    shape = {} if path in ("/v1/completions", "/v1/responses") else {"messages": MESSAGES}
    limit = {} if path == "/v1/responses" else {"max_tokens": 3}
    for _ in range(4):
        refused = await gateway.post({"model": "local", "stream": stream, **shape, **limit, **fields}, key=BAD, path=path)
        assert refused.status_code == 400 and param in refused.text, refused.text
    assert await answered(gateway)
