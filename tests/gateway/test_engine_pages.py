"""Engines' own metrics, told on: names untouched, an `engine` label, and nothing that is not well-formed."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families

from gateway.metrics.engine_pages import families_of
from gateway.metrics.exposition import exposition
from gateway.metrics.snapshot import Snapshot
from tests.gateway.test_metrics import read

VLLM = """# HELP python_info Python platform information
# TYPE python_info gauge
python_info{version="3.12"} 1.0
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="/models/a \\"b\\", engine=1"} 3.0
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 1.2e+06
# HELP vllm:prompt_tokens_created Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_created gauge
vllm:prompt_tokens_created{engine="0",model_name="m"} 1.79e+09
# HELP vllm:e2e_request_latency_seconds Histogram of e2e request latency in seconds.
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{engine="0",le="0.3",model_name="m"} 1.0
vllm:e2e_request_latency_seconds_bucket{engine="0",le="+Inf",model_name="m"} 2.0
vllm:e2e_request_latency_seconds_count{engine="0",model_name="m"} 2.0
vllm:e2e_request_latency_seconds_sum{engine="0",model_name="m"} 1.5
"""
BROKEN = [
    "vllm:x{a=b} 1",
    'vllm:x{a="b} 1',
    'vllm:x{a="b"} one',
    'vllm:x{a="b"} 1 2 3',
    'vllm:x{a="b",} 1 # {request_id="r"} 1',
    'turnout_requests_total{model="m"} 9',
    "secret 1",
    "vllm:x",
]


def text(pages: dict[str, str], open_metrics: bool = False) -> str:
    return exposition(Snapshot(), families_of(pages), open_metrics).decode()


def test_two_engines_pages_are_one_with_each_family_once_in_both_formats() -> None:
    pages = {"gpu-1": VLLM, "gpu-2": VLLM}
    plain, opened = read(text(pages)), read(text(pages, open_metrics=True), open_families)
    assert plain == opened and len(plain) == 2 * 6
    assert plain["vllm:prompt_tokens_total", frozenset({("engine", "gpu-2"), ("exported_engine", "0"), ("model_name", "m")})] == 1.2e6
    assert text(pages).count("# TYPE vllm:prompt_tokens_total counter") == 1
    assert "python_info" not in text(pages) and "_created" not in text(pages)


def test_a_label_s_value_that_looks_like_a_label_stays_as_it_is() -> None:
    values = read(text({"gpu": VLLM}))
    (labels,) = [dict(labels) for name, labels in values if name == "vllm:num_requests_running"]
    assert labels == {"engine": "gpu", "exported_engine": "0", "model_name": '/models/a "b", engine=1'}


@pytest.mark.parametrize("line", BROKEN)
def test_a_line_that_is_not_well_formed_or_not_the_engine_s_is_left_out(line: str) -> None:
    told = text({"gpu": f"{VLLM}{line}\n"})
    assert told == text({"gpu": VLLM})


def test_a_counter_whose_samples_are_not_named_as_openmetrics_wants_is_told_as_unknown_there() -> None:
    page = {"cpu": "# TYPE llamacpp:n_decode counter\nllamacpp:n_decode 7\n"}
    assert "# TYPE llamacpp:n_decode counter" in text(page)
    assert read(text(page, open_metrics=True), open_families) == {("llamacpp:n_decode", frozenset({("engine", "cpu")})): 7}
