"""What vLLM is told beside its command line where it runs on a CPU. Its start itself is in tests/vllm."""

import json
from pathlib import Path

import pytest

from providers.local.vllm_serve import SHARE, SHARE_STEPS, STEP_TOKENS, in_shared_steps, in_short_steps


def folder(place: Path, architecture: str) -> str:
    (place / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    return str(place)


@pytest.mark.parametrize(("slots", "tokens"), [(4, STEP_TOKENS), (200, 400)])
def test_a_model_that_answers_takes_short_steps_with_room_for_its_slots(tmp_path: Path, slots: int, tokens: int) -> None:
    told = [folder(tmp_path, "LlamaForCausalLM"), "--max-num-seqs", str(slots)]
    assert in_short_steps(told) == [*told, "--max-num-batched-tokens", str(tokens)]


@pytest.mark.parametrize("flags", [["--max-num-batched-tokens", "8"], ["--max_num_batched_tokens=8"], ["--runner", "pooling"], ["--convert=embed"]])
def test_who_settles_it_is_not_contradicted(tmp_path: Path, flags: list[str]) -> None:
    told = [folder(tmp_path, "LlamaForCausalLM"), *flags]
    assert in_short_steps(told) == told


def test_a_model_that_takes_a_text_whole_or_is_not_known_is_left_alone(tmp_path: Path) -> None:
    unknown = [str(tmp_path / "elsewhere")]
    assert in_short_steps(unknown) == unknown
    told = [folder(tmp_path, "BertModel")]
    assert in_short_steps(told) == told


@pytest.mark.parametrize(
    ("flags", "most"),
    [
        ([], 1024),
        (["--max-num-batched-tokens", "64"], 32),
        (["--max_num_batched_tokens=8192"], 4096),
        (["--max-model-len", "512"], 512),
    ],
)
def test_where_steps_are_shared_a_prompt_takes_half_of_one(tmp_path: Path, flags: list[str], most: int) -> None:
    told = [folder(tmp_path, "LlamaForCausalLM"), *flags]
    assert in_shared_steps([*told, SHARE_STEPS]) == [*told, SHARE, str(most)]
    assert in_shared_steps(told) == told, "nothing is promised"


@pytest.mark.parametrize("flags", [["--long_prefill_token_threshold=9"], ["--no-enable-chunked-prefill"], ["--runner", "pooling"]])
def test_who_settles_how_steps_are_shared_is_not_contradicted(tmp_path: Path, flags: list[str]) -> None:
    told = [folder(tmp_path, "LlamaForCausalLM"), *flags]
    assert in_shared_steps([*told, SHARE_STEPS]) == told
    whole = [folder(tmp_path, "BertModel")]
    assert in_shared_steps([*whole, SHARE_STEPS]) == whole
