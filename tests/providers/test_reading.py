"""What is read from the metrics pages of engines, in the words of vLLM 0.32, SGLang and llama.cpp; the live ones are in tests/providers/local."""

import pytest

from providers.reading import Reader, Reading, page_of

VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="gpu"} 7.0
vllm:num_requests_running{engine="1",model_name="gpu"} 5.0
vllm:num_requests_waiting{engine="0",model_name="gpu"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="gpu",reason="capacity"} 3.0
vllm:kv_cache_usage_perc{engine="0",model_name="gpu"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="gpu"} 0.7
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="1000",swap_space="4"} 1.0
vllm:prefix_cache_queries_total{engine="0",model_name="gpu"} QUERIES
vllm:prefix_cache_hits_total{engine="0",model_name="gpu"} HITS
vllm:prompt_tokens_total{engine="0",model_name="gpu"} QUERIES
vllm:generation_tokens_total{engine="0",model_name="gpu"} OUTPUT
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="gpu"} 9.0
"""
SGLANG = """sglang:num_running_reqs{model_name="m"} 4.0
sglang:num_queue_reqs{model_name="m"} 2.0
sglang:token_usage{model_name="m"} 0.28
sglang:generation_tokens_total{model_name="m"} 7.557572e+06
"""
LLAMACPP = "llamacpp:requests_processing 1\nllamacpp:requests_deferred 2\nllamacpp:prompt_tokens_total 90\nllamacpp:prompt_tokens_cached_total 10\n"
SLOTS = b"""[{"id":0,"n_ctx":500,"is_processing":false,"n_prompt_tokens":400,"n_prompt_tokens_processed":400},
 {"id":1,"n_ctx":500,"is_processing":true,"n_prompt_tokens":300,"n_prompt_tokens_processed":40,"n_prompt_tokens_cache":60,
  "next_token":[{"n_decoded":0,"n_remain":60}]}]"""


def vllm(queries: int, hits: int, output: int) -> str:
    return VLLM.replace("QUERIES", f"{queries}.0").replace("HITS", f"{hits}.0").replace("OUTPUT", f"{output}.0")


def test_vllm_s_page_tells_load_memory_speed_and_hits() -> None:
    reader = Reader()
    first = reader.read(10.0, page_of(vllm(1000, 0, 0)))
    assert first == Reading(at=10.0, running=12, waiting=3, kv_used=0.6, kv_tokens=16_000)
    second = reader.read(12.0, page_of(vllm(3000, 500, 400)))
    assert (second.tokens_per_s, second.prompt_tokens_per_s, second.prefix_hits) == (200.0, 1000.0, 0.25)


def test_an_engine_that_was_restarted_has_no_speed_until_it_is_seen_again() -> None:
    reader = Reader()
    for at, output in ((0.0, 0), (1.0, 100)):
        reading = reader.read(at, page_of(vllm(0, 0, output)))
    assert reading.tokens_per_s == 100.0
    assert reader.read(2.0, page_of(vllm(0, 0, 5))).tokens_per_s is None
    assert reader.read(3.0, page_of(vllm(0, 0, 55))).tokens_per_s == 50.0


def test_an_engine_that_rests_has_a_speed_of_0_soon() -> None:
    reader = Reader()
    rates = [reader.read(float(at), page_of(vllm(0, 0, 100 if at else 0))).tokens_per_s for at in range(40)]
    assert rates[1] == 100.0 and rates[-1] == 0.0


def test_sglang_s_page_is_understood() -> None:
    assert Reader().read(0.0, page_of(SGLANG)) == Reading(at=0.0, running=4, waiting=2, kv_used=0.28)


def test_llama_cpp_s_slots_tell_what_its_metrics_do_not() -> None:
    seen = Reader().read(0.0, page_of(LLAMACPP), SLOTS)
    assert (seen.running, seen.waiting, seen.kv_tokens, seen.kv_used, seen.prefill_tokens) == (1, 2, 1000, 0.1, 200)


def test_what_a_token_takes_is_told_by_either_engine() -> None:
    llamacpp = "llamacpp:prompt_tokens_total 200\nllamacpp:prompt_seconds_total 0.5\nllamacpp:tokens_predicted_total 50\n"
    seen = Reader().read(0.0, page_of(llamacpp + "llamacpp:tokens_predicted_seconds_total 2\n"))
    assert (seen.prompt_token_s, seen.output_token_s) == (0.0025, 0.04)
    vllm_page = 'vllm:prompt_tokens_total{a="1"} 300\nvllm:prefix_cache_hits_total{a="1"} 100\nvllm:generation_tokens_total{a="1"} 50\n'
    times = 'vllm:request_prefill_time_seconds_sum{a="1"} 0.5\nvllm:request_decode_time_seconds_sum{a="1"} 2\n'
    seen = Reader().read(0.0, page_of(vllm_page + times))
    assert (seen.prompt_token_s, seen.output_token_s) == (0.0025, 0.04)


@pytest.mark.parametrize("text", ["", "<html>no</html>", 'vllm:num_requests_running{a="} 1"} NaN\n', "vllm:num_requests_running\n", "\x00\xff"])
def test_what_a_page_does_not_tell_is_unknown(text: str) -> None:
    assert Reader().read(0.0, page_of(text)) == Reading(at=0.0)
