"""The file's text: what is no YAML, what is too much of it, and what YAML can do that a configuration must not."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from config.document import ConfigError
from config.load import Loaded, load
from tests.config.files import KNOWN, loaded, places, refused, written

NOT_YAML = [
    (b"server: {port: 1", "1:17: not valid YAML: expected ',' or '}', but got '<stream end>'"),
    (b"server:\n\tport: 1", "2:1: not valid YAML: found character '\\t' that cannot start any token"),
    (b"\tserver: {}", "1:1: not valid YAML: found character '\\t' that cannot start any token"),
    (b"server: *x", "1:9: not valid YAML: found undefined alias 'x'"),
    (b"server: 'a", "1:11: not valid YAML: found unexpected end of stream"),
    (b"a: b: c", "1:5: not valid YAML: mapping values are not allowed here"),
    (b"server: {}\n---\nserver: {}", "2:1: not valid YAML: expected a single document in the stream: but found another document"),
    (b"server: {}\nhost: \x00", "2:7: not valid YAML: the character U+0000 is not allowed"),
    (b"\x1b[0m", "1:1: not valid YAML: the character U+001B is not allowed"),
    (b"server: @x", "1:9: not valid YAML: found character '@' that cannot start any token"),
    (b"server: \xff", "is not UTF-8 text (byte 8)"),
    ("server: {}".encode("utf-16"), "is not UTF-8 text (byte 0)"),
    (b"a: 2024-13-45", "1:4: `2024-13-45` is no timestamp; put text in quotes"),
    (b"a: !!int x", "1:4: `x` is no int; put text in quotes"),
    (b"a: !!bool x", "1:4: `x` is no bool; put text in quotes"),
    (b"a: !!float x", "1:4: `x` is no float; put text in quotes"),
    (b"a: !!timestamp x", "1:4: `x` is no timestamp; put text in quotes"),
    (b"a: 0x_", "1:4: `0x_` is no int; put text in quotes"),
    (b"a: 1" + b"0" * 5000, "1:4: `1" + "0" * 39 + "` is no int; put text in quotes"),
    (b"a: !!binary aGk=", "1:4: the tag `tag:yaml.org,2002:binary` is not supported"),
    (b"a: !!python/name:os.system", "1:4: the tag `tag:yaml.org,2002:python/name:os.system` is not supported"),
    (b"a: !!python/object/apply:os.system [id]", "1:4: the tag `tag:yaml.org,2002:python/object/apply:os.system` is not supported"),
    (b"a: !own {b: c}", "1:4: the tag `!own` is not supported"),
    (b"a: !!set {b}", "1:4: the tag `tag:yaml.org,2002:set` is not supported"),
]


@pytest.mark.parametrize(("text", "told"), NOT_YAML, ids=[ascii(text)[:50] for text, _ in NOT_YAML])
def test_what_is_no_plain_yaml_is_refused_at_its_place(tmp_path: Path, text: bytes, told: str) -> None:
    error = refused(tmp_path, text)
    assert str(error).removeprefix(f"{error.file}:").strip() == told


@pytest.mark.parametrize("text", ["server: {host: =}", "server: {host: <<}"])
def test_yamls_odd_one_word_tags_are_text(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text).settings.server.host in ("=", "<<")


# --- anchors and merge keys ------------------------------------------------------------------------------------------------
def test_an_anchor_may_be_used_again(tmp_path: Path) -> None:
    text = """
        providers:
          a: {kind: ollama, timeouts: &slow {total_s: 900}}
          b: {kind: ollama, timeouts: *slow}
    """
    assert loaded(tmp_path, text).settings.providers["b"].timeouts.total_s == 900


def test_a_merge_key_brings_keys_in_and_the_mappings_own_win(tmp_path: Path) -> None:
    text = """
        providers:
          a: &base {kind: ollama, transport: httpx, api_key: x}
          b: {api_key: y, <<: *base}
    """
    provider = loaded(tmp_path, text).settings.providers["b"]
    assert provider.kind == "ollama" and provider.transport == "httpx"
    assert provider.api_key is not None and provider.api_key.get_secret_value() == "y"


@pytest.mark.parametrize("text", ["server: {<<: [{port: 1}, {port: 2, host: h}]}", "server: {<<: {port: 1}, <<: {port: 2, host: h}}"])
def test_of_several_merged_mappings_the_first_wins(tmp_path: Path, text: str) -> None:
    server = loaded(tmp_path, text).settings.server
    assert (server.port, server.host) == (1, "h")


def test_a_merge_may_merge_in_turn(tmp_path: Path) -> None:
    text = "server: {<<: {<<: {port: 1, host: h}, port: 2}}"
    server = loaded(tmp_path, text).settings.server
    assert (server.port, server.host) == (2, "h")


def test_a_fault_in_merged_keys_is_told_where_it_is_written(tmp_path: Path) -> None:
    text = "providers:\n  a: &base {kind: ollama, baseurl: x}\n  b: {<<: *base}"
    told = places(refused(tmp_path, text))
    assert [line.split(": ")[0] for line in told] == ["2:27", "2:27"]


@pytest.mark.parametrize("text", ["server: {<<: 3}", "server: {<<: [{port: 1}, 3]}"])
def test_only_mappings_can_be_merged(tmp_path: Path, text: str) -> None:
    assert places(refused(tmp_path, text)) == ["1:14: `<<` takes a mapping or a list of mappings"]


def test_a_quoted_merge_key_is_an_unknown_key(tmp_path: Path) -> None:
    assert places(refused(tmp_path, 'server: {"<<": {port: 1}}'))[0].startswith("1:10: `<<` is not a key of server")


HOLDING_ITSELF = ["a: &a [*a]", "a: &a {b: *a}", "&a {b: [1, {c: *a}]}", "a: &a [&b [*a, *b]]", "a: &a {<<: {b: *a}}"]


@pytest.mark.parametrize("text", HOLDING_ITSELF)
def test_an_anchor_that_holds_itself_is_refused(tmp_path: Path, text: str) -> None:
    assert places(refused(tmp_path, text))[0].endswith(": this anchor holds itself")


def test_a_mapping_that_merges_itself_gains_nothing(tmp_path: Path) -> None:
    assert loaded(tmp_path, "server: &a {<<: *a, port: 5}").settings.server.port == 5


# --- too much --------------------------------------------------------------------------------------------------------------
def laughs(first: str, again: str, levels: int = 12) -> bytes:
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} " + again.replace("X", ",".join([f"*a{n - 1}"] * 10)) for n in range(1, levels)]
    return "\n".join(lines).encode()


TOO_MUCH = [
    (laughs("[lol]", "[X]"), "holds more than 100000 values (anchors that repeat themselves?)"),
    (laughs("{a: b}", "{a: [X]}"), "holds more than 100000 values (anchors that repeat themselves?)"),
    (
        b"a: &a {" + b",".join(b"k%d: 1" % n for n in range(2000)) + b"}\nb: {<<: [" + b",".join([b"*a"] * 2000) + b"]}",
        "holds more than 100000 values",
    ),
    (b"a: [" + b"1," * 110_000 + b"]", "holds more than 100000 values"),
    (b"a: " + b"[" * 5_000 + b"]" * 5_000, "is nested too deep"),
    (b"a: " + b"{b: " * 5_000 + b"}" * 5_000, "is nested too deep"),
    (b"#" * (2 << 20), "is larger than 1048576 bytes"),
]


@pytest.mark.parametrize(("text", "told"), TOO_MUCH, ids=[ascii(text[:24]) for text, _ in TOO_MUCH])
def test_too_much_is_refused_in_bounded_time(tmp_path: Path, text: bytes, told: str) -> None:
    began = time.monotonic()
    error = refused(tmp_path, text)
    assert told in str(error) and len(error.findings) == 1
    assert time.monotonic() - began < 30  # PyYAML needs some seconds for the longest of these


def test_merges_that_multiply_cost_no_more_than_their_keys(tmp_path: Path) -> None:
    began = time.monotonic()
    (*_, last) = places(refused(tmp_path, laughs("{b: c}", "{<<: [X]}", levels=40)))
    assert "is not a key of the configuration" in last
    assert time.monotonic() - began < 10


def test_a_long_text_that_anchors_repeat_is_filled_in_once(tmp_path: Path) -> None:
    began = time.monotonic()
    text = b"a: &a '${X}" + b"x" * 100_000 + b"'\nb: [" + b",".join([b"*a"] * 50_000) + b"]"
    refused(tmp_path, text, {"X": "y"})
    assert time.monotonic() - began < 30


def test_a_device_that_never_ends_is_refused() -> None:
    with pytest.raises(ConfigError, match="is larger than"):
        load(Path("/dev/zero"), {}, KNOWN)


# --- junk ------------------------------------------------------------------------------------------------------------------
WORDS = "server state providers engines models policies teams kind openai ollama model targets engine provider keys * ${A} ${A:-b} ${ ~ << = cpu"
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4) | st.dates() | st.datetimes()
) | st.sampled_from(WORDS.split())
junk = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS.split()) | scalars, inner, max_size=4),
    max_leaves=20,
)
sections = st.dictionaries(st.sampled_from(["server", "state", "providers", "engines", "models", "policies", "teams"]), junk, max_size=4)
relaxed = hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(folder: Path, text: bytes) -> Loaded | ConfigError:
    try:
        return load(written(folder, text), {"A": "x"}, KNOWN)
    except ConfigError as error:
        return error


def check(result: Loaded | ConfigError) -> None:
    findings = result.findings if isinstance(result, ConfigError) else result.advice
    assert isinstance(result, Loaded) or findings
    assert all(finding.message for finding in findings)
    if isinstance(result, ConfigError):
        str(result).encode()
        assert len(str(result).splitlines()) == len(findings)


@relaxed
@given(data=junk | sections)
def test_whatever_yaml_can_say_loads_or_is_refused(tmp_path: Path, data: Any) -> None:
    check(outcome(tmp_path, yaml.safe_dump(data, allow_unicode=False).encode()))


@relaxed
@given(text=st.binary(max_size=60) | st.text(st.sampled_from("abs:{}[]&*!<>|?-#'\"\\\n\t $,=~.0x"), max_size=40).map(str.encode))
def test_whatever_bytes_a_file_holds_they_load_or_are_refused(tmp_path: Path, text: bytes) -> None:
    check(outcome(tmp_path, text))
