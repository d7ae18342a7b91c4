"""Batches on an engine of the gateway's own: they fill it, and make room for who is interactive. Real tokens, one team alone."""

from pathlib import Path

from tests.gateway.batching import ended, lines, made, row, until
from tests.gateway.conftest import KEY, running

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
engines: {{cpu: {{kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: 1, threads: 1, context: 512}}}}
models: {{local: {{targets: [{{engine: cpu}}]}}}}
teams: {{search: {{keys: [{key}]}}}}
"""


def asked(text: str, tokens: int) -> dict[str, object]:
    return {"model": "local", "max_tokens": tokens, "temperature": 0, "messages": [{"role": "user", "content": text}]}


async def test_a_live_request_takes_the_place_of_a_batch_s_row_and_no_row_is_lost(tmp_path: Path) -> None:
    rows = [row(f"r{n}", asked(f"Count to {n + 10}.", 120)) for n in range(4)]
    async with running(CONFIG.format(folder=tmp_path, key=KEY), tmp_path) as gateway:
        batch = await made(gateway.sdk, rows)
        admission = gateway.runtime.backends[0].admission  # type: ignore[attr-defined]
        batch = await until(gateway.sdk, batch, lambda _: admission.running == 1 and admission.waiting >= 1)
        live = await gateway.post(asked("Say yes.", 2))
        assert live.status_code == 200
        counts = (await gateway.sdk.batches.retrieve(batch.id)).request_counts
        assert counts is not None and counts.completed <= 1, "it waited behind rows of the batch"
        batch = await ended(gateway.sdk, batch, 110)
        assert set(await lines(gateway.sdk, batch.output_file_id)) == {"r0", "r1", "r2", "r3"}
        assert batch.model_extra is not None and (batch.model_extra["turnout"]["unpriced_rows"], batch.model_extra["turnout"]["cost_usd"]) == (0, 0)
        billed = [each for each in await gateway.all_rows() if each.billed == "team"]
        assert len(billed) == 5 and sum(each.engine_decode_us or 0 for each in billed) > 0


async def test_rows_that_have_no_place_in_the_engine_wait_outside_it(tmp_path: Path) -> None:
    text = CONFIG.format(folder=tmp_path, key=KEY).replace("slots: 1", "slots: 1, max_queue: 1, max_wait_s: 0.2")
    async with running(text, tmp_path) as gateway:
        batch = await ended(gateway.sdk, await made(gateway.sdk, [row(f"r{n}", asked(f"Say {n}.", 8)) for n in range(12)]), 110)
        assert len(await lines(gateway.sdk, batch.output_file_id)) == 12
