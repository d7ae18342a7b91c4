"""A row is built by place: each of its columns is in its own."""

import json
from pathlib import Path

from tests.gateway.conftest import KEY, running
from tests.gateway.upstream import Upstream

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai, base_url: "{one}", api_key: k}}
policies: {{quick: {{slo: {{deadline_ms: 60000}}}}}}
models:
  asked: {{policy: quick, targets: [{{provider: one, model: sent, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 10}}}}]}}
organisations: {{acme: {{budget: {{usd: 5, window: day}}}}}}
teams: {{search: {{keys: [{key}], organisation: acme, budget: {{usd: 1, window: day}}}}}}
"""


async def test_each_column_of_a_row_says_what_it_is_named_for(one: Upstream, tmp_path: Path) -> None:
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, key=KEY), tmp_path) as gateway:
        body = {"model": "asked", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
        for _ in range(3):  # the first teach what is predicted of the last
            answer = await gateway.post(body)
        said = answer.json()
        (row,) = await gateway.rows(answer.headers["x-request-id"])
    usage = said["usage"]

    assert (row.request_id, row.attempt, row.team, row.organisation) == (answer.headers["x-request-id"], 1, "search", "acme")
    assert (row.endpoint, row.stream, row.model_asked, row.route, row.target, row.model_sent) == (
        "chat.completions", False, "asked", "asked", "one", "sent",
    )  # fmt: skip
    assert (row.status, row.error_code, row.http_status, row.client_status, row.billed) == ("ok", None, 200, 200, "team")
    assert row.key_id and row.key_id != row.team and row.reason == answer.headers["x-turnout-decision"]
    assert (row.finish_reason, row.native_finish_reason, row.upstream_id) == ("stop", "stop", said["id"])
    assert (row.usage.input_total, row.usage.output_total) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert row.cost_nusd == usage["prompt_tokens"] * 1_000 + usage["completion_tokens"] * 10_000
    assert (row.bytes_request, row.bytes_client) == (len(one.journal[-1].raw), len(answer.content))
    assert row.bytes_upstream == len(answer.content) and row.bytes_request != row.bytes_client
    assert 0 <= row.queue_us <= row.connect_us <= row.headers_us <= row.first_token_us <= row.end_us and row.overhead_us > 0
    assert row.prompt_tokens_estimated == len(json.dumps(body, separators=(",", ":"))) // 4
    assert 0 < row.predicted_end_us <= row.predicted_end_p95_us and row.predicted_cost_nusd > 0
    assert (row.policy, row.slo_met, row.cache, row.saved_nusd, row.held_nusd) == ("quick", True, None, None, None)
    assert (row.engine_prefill_us, row.engine_decode_us, row.engine_nusd) == (None, None, None) and row.decision is not None
