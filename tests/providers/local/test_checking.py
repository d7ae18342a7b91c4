"""What is looked at in a request before an engine of ours is asked."""

import json
from typing import Any

import msgspec
import pytest

from contract.call import Call
from contract.call import Dialect as DialectName
from contract.errors import EngineRefused, InvalidRequest
from providers.local.checking import check_chat, check_media, check_numbers
from tests.providers.local.conftest import engine_spec

TOOL = {"type": "function", "function": {"name": "weather"}}
PNG = "data:image/png;base64,iVBORw0KGgo="


def call_of(dialect: DialectName = "openai_chat", **fields: Any) -> Call:
    return of_bytes(json.dumps(fields).encode(), dialect)


def of_bytes(body: bytes, dialect: DialectName = "openai_chat") -> Call:
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return Call(request_id="r", dialect=dialect, model="m", stream=False, include_usage=False, choices=1, body=body, fields=members)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("temperature", -1, "`temperature` must be from 0 to 2, not -1"),
        ("temperature", 2.1, "from 0 to 2"),
        ("top_p", 5, "`top_p` must be from 0 to 1"),
        ("presence_penalty", 99, "from -2 to 2"),
        ("frequency_penalty", -2.5, "from -2 to 2"),
        ("max_tokens", 0, "`max_tokens` must be from 1 to 2147483647, not 0"),
        ("max_tokens", 10**400, "`max_tokens` must be from 1 to 2147483647, not one of more"),
        ("temperature", 10**400, "`temperature` must be from 0 to 2, not one of more than 30 digits"),
        ("seed", -(10**400), "`seed` must be from -9.223372037e\\+18 to 9.223372037e\\+18, not one of more"),
        ("max_completion_tokens", -1, "from 1 to"),
        ("max_output_tokens", 0, "from 1 to"),
        ("top_logprobs", 40000, "`top_logprobs` must be from 0 to 20, not 40000"),
        ("top_logprobs", -1, "from 0 to 20"),
        ("n_probs", 49152, "`n_probs` must be from 0 to 20"),
        ("logprobs", 21, "`logprobs` must be from 0 to 20"),
        ("min_p", 7, "`min_p` must be from 0 to 1"),
        ("top_k", -2, "`top_k` must be at least -1"),
        ("seed", 2**63, "`seed` must be from -9.22"),
        ("seed", 2**80, "`seed` must be from -9.22"),
        ("top_k", 2**64, "a whole number in `top_k` is beyond 64 bits"),
        ("stop_token_ids", [1, 10**400], "a whole number in `stop_token_ids` is beyond 64 bits"),
        ("vllm_xargs", {"a": [{"b": -(2**70)}]}, "a whole number in `vllm_xargs` is beyond 64 bits"),
        ("logit_bias", {"5": 1, "7": 99999}, r"`logit_bias` must be from -100 to 100, not 99999 \(token '7'\)"),
        ("logit_bias", {"7": -100.5}, "from -100 to 100"),
        ("stop", ["a", "b", "c", "d", "e"], "`stop` may have 4 sequences, not 5"),
    ],
)
def test_a_number_beyond_what_its_member_takes_is_the_sender_s_fault(name: str, value: Any, words: str) -> None:
    with pytest.raises(EngineRefused, match=words) as refused:
        check_numbers(call_of(**{name: value}), "cpu", 20)
    assert refused.value.param == name and "'cpu'" in refused.value.message


def test_a_number_that_no_double_holds_is_the_sender_s_fault() -> None:
    with pytest.raises(InvalidRequest, match="`top_p` is no JSON that can be read"):
        check_numbers(of_bytes(b'{"top_p": 1e999}'), "cpu", 20)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0, "top_p": 1, "presence_penalty": -2, "frequency_penalty": 2, "max_tokens": 1, "top_logprobs": 20, "n_probs": 0},
        {"logprobs": True, "temperature": None, "max_tokens": None},
        {"min_p": 0.05, "top_k": -1, "seed": -1, "logit_bias": {"5": -100, "6": 100}, "stop": ["a", "b", "c", "d"]},
        {"seed": 2**63 - 1, "logit_bias": None, "stop": "a"},
        {"top_k": 2**63 - 1, "user": "9" * 40, "messages": [{"role": "user", "content": f"What is 1, {10**30}?"}]},
    ],
)
def test_what_is_within_its_bounds_or_null_passes(fields: dict[str, Any]) -> None:
    check_numbers(call_of(**fields), "cpu", 20)


def test_completions_may_ask_for_no_token() -> None:
    check_numbers(call_of("openai_completions", max_tokens=0), "gpu", 20)
    with pytest.raises(EngineRefused, match="from 0 to 2147483647"):
        check_numbers(call_of("openai_completions", max_tokens=-1), "gpu", 20)


@pytest.mark.parametrize(
    ("args", "most"),
    [((), 20), (("--max-logprobs", "50"), 50), (("--max_logprobs=7",), 7), (("--max-logprobs", "-1"), 20), (("--max-logprobs",), 20)],
)
def test_a_vllm_that_is_given_more_log_probabilities_tells_more(args: tuple[str, ...], most: int) -> None:
    assert engine_spec(kind="vllm", args=args).most_logprobs == most


@pytest.mark.parametrize("form", [{}, {"json_schema": None}, {"json_schema": {"name": "x"}}, {"json_schema": {"name": "x", "schema": "object"}}])
def test_a_schema_that_is_not_there_is_the_sender_s_fault(form: dict[str, Any]) -> None:
    with pytest.raises(EngineRefused, match="needs a `schema`") as refused:
        check_chat(call_of(response_format={"type": "json_schema", **form}), "cpu", True)
    assert refused.value.param == "response_format"


@pytest.mark.parametrize("tools", [None, [], [TOOL], [{"type": "custom"}]])
def test_a_function_that_is_not_among_the_tools_is_the_sender_s_fault(tools: Any) -> None:
    with pytest.raises(EngineRefused, match="names the function 'nope', which is not among `tools`") as refused:
        check_chat(call_of(tools=tools, tool_choice={"type": "function", "function": {"name": "nope"}}), "cpu", True)
    assert refused.value.param == "tool_choice"


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [TOOL], "tool_choice": TOOL},
        {"tools": [TOOL], "tool_choice": "auto"},
        {"tool_choice": {"type": "allowed_tools"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"response_format": {"type": "text"}},
        {"response_format": None},
    ],
)
def test_what_is_whole_passes(fields: dict[str, Any]) -> None:
    check_chat(call_of(**fields), "cpu", True)


def about(*parts: dict[str, Any]) -> Call:
    return call_of(messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}, *parts]}])


ELSEWHERE = [
    *("http://127.0.0.1:40800/metrics", "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "/etc/passwd", "ftp://media.example/x", ""),
    *("https://evil.example/?https://media.example/", "https://media.example@evil.example/", "https://media.example\\@evil.example/"),
    *("https://media.example.evil.example/", "https://media.example:80@evil.example/", " https://media.example/", "https://media.example/a b"),
    *("https://evil.example\\.media.example/", "https://media.example\n/", "//media.example/x"),
]


@pytest.mark.parametrize("url", ELSEWHERE)
@pytest.mark.parametrize(
    "part",
    [
        lambda url: {"type": "image_url", "image_url": {"url": url}},
        lambda url: {"type": "audio_url", "audio_url": {"url": url}},
        lambda url: {"type": "video_url", "video_url": {"url": url}},
        lambda url: {"image_url": url},
        lambda url: {"type": "input_image", "image_url": url},
        lambda url: {"type": "image_url", "uuid": "u", "image_url": {"url": url, "detail": "low"}},
    ],
)
def test_what_would_have_to_be_fetched_is_the_sender_s_fault(part: Any, url: str) -> None:
    for domains in ((), ("media.example",)):
        with pytest.raises(EngineRefused, match="data: URL") as refused:
            check_media(about(part(url)), "gpu", domains)
        assert refused.value.param == "messages"


def test_no_way_of_writing_json_hides_a_url() -> None:
    body = rb'{"messages":[{"role":"user","content":[{"type":"image\u005furl","image\u005furl":{"url":"http\u003a//127.0.0.1/"}}]}]}'
    with pytest.raises(EngineRefused, match=r"'http://127\.0\.0\.1/': it fetches nothing"):
        check_media(of_bytes(body), "gpu", ())


def test_a_long_url_is_not_told_in_full() -> None:
    with pytest.raises(EngineRefused) as refused:
        check_media(about({"type": "image_url", "image_url": {"url": "http://x/" + "y" * 10_000}}), "gpu", ())
    assert len(refused.value.message) < 400


@pytest.mark.parametrize("url", [PNG, PNG.upper(), "https://media.example/a.png?b=c#d", "HTTP://Media.Example:8080/a", "https://media.example"])
def test_what_comes_itself_or_from_a_domain_that_is_allowed_passes(url: str) -> None:
    check_media(
        about({"type": "image_url", "image_url": {"url": url}}, {"type": "input_audio", "input_audio": {"data": "x"}}), "gpu", ("media.example",)
    )


def test_text_that_speaks_of_urls_passes() -> None:
    check_media(call_of(messages=[{"role": "user", "content": '{"image_url": "http://127.0.0.1/"}'}]), "gpu", ())
