"""An engine's spec refuses what cannot work; the pace of restarts doubles up to its cap."""

import os
from pathlib import Path
from typing import Any

import pytest

from config.engines import EngineSettings
from gateway.engine_spec import engine_spec
from providers.local.admission import Admission
from providers.local.spec import EngineSpec, Pace, usable_cpus
from providers.local.vllm_command import serve_command
from tests.providers.local.conftest import engine_spec as spec_of


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"slots": 0}, "slots"),
        ({"max_queue": -1}, "max_queue"),
        ({"max_prompt_tokens": 2048, "ctx_per_slot": 2048}, "max_prompt_tokens"),
        ({"max_prompt_tokens": 0}, "max_prompt_tokens"),
        ({"model_path": "model.gguf"}, "absolute"),
    ],
)
def test_a_spec_that_cannot_work_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        EngineSpec(**{"name": "cpu", "model_path": "/m.gguf", **fields})


def test_the_backoff_doubles_up_to_its_cap() -> None:
    assert [Pace().backoff_s(crashes) for crashes in range(1, 8)] == [1, 2, 4, 8, 16, 32, 60]


def test_the_backoff_begins_anew_after_a_child_that_lived() -> None:
    pace = Pace(settled_s=30.0)
    assert [pace.crashes_after(6, lived_s) for lived_s in (None, 29.0, 30.0)] == [7, 7, 1]


def test_the_usable_cpus_are_never_more_than_the_machine_s_nor_less_than_one() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)


def test_what_is_configured_of_batch_work_reaches_the_queue(tmp_path: Path) -> None:
    (weights := tmp_path / "m.gguf").write_bytes(b"GGUF")
    batch = {"prompt_tokens": 1024}
    settings = EngineSettings.model_validate({"kind": "llamacpp", "model": str(weights), "batch": batch})
    queue = Admission.of(engine_spec("cpu", settings))
    assert queue.prefills.batch_at_once == 1024


def test_of_vllm_s_steps_a_prompt_takes_half_where_a_first_token_is_promised_and_nobody_says_otherwise() -> None:
    def share(**fields: Any) -> float:
        return spec_of(**{"kind": "vllm", "ttft_s": 1.0, **fields}).slow_share

    assert share() == 0.5 and share(args=("--max-num-batched-tokens", "8192")) == 0.5
    assert share(ttft_s=None) == share(kind="llamacpp") == share(kind="ray-serve") == share(args=("--long_prefill_token_threshold=0",)) == 1.0
    assert "--share-steps" in serve_command(spec_of(kind="vllm", ttft_s=1.0), "s")
    assert "--share-steps" not in serve_command(spec_of(kind="vllm"), "s")


def test_we_choose_llama_cpp_s_slots_where_a_first_token_is_promised() -> None:
    assert spec_of(ttft_s=1.0).seated and not spec_of().seated and not spec_of(kind="vllm", ttft_s=1.0).seated
