"""Variables in the file: what is filled in, what is refused, and that what they held is never shown."""

from pathlib import Path

import pytest
import yaml

from config.load import shown
from tests.config.files import loaded, places, refused

ENV = {"HOST": "10.0.0.1", "PORT": "9000", "EMPTY": "", "DOLLARS": "$${HOST}", "_x1": "underscore"}

FILLED = [
    ("${HOST}", "10.0.0.1"),
    ("${_x1}", "underscore"),
    ("a-${HOST}-b-${PORT}", "a-10.0.0.1-b-9000"),
    ("${NONE:-other}", "other"),
    ("${EMPTY:-other}", "other"),
    ("${HOST:-other}", "10.0.0.1"),
    ("x${EMPTY}", "x"),
    ("x${NONE:-}", "x"),
    ("${NONE:-a:-b}", "a:-b"),
    ("${NONE:-$HOST}", "$HOST"),
    ("$$", "$"),
    ("$${HOST}", "${HOST}"),
    ("$$$${HOST}", "$${HOST}"),
    ("$$${HOST}", "$10.0.0.1"),
    ("a$b", "a$b"),
    ("$HOST", "$HOST"),
    ("a$", "a$"),
    ("${DOLLARS}", "$${HOST}"),
]


@pytest.mark.parametrize(("text", "value"), FILLED, ids=[text for text, _ in FILLED])
def test_a_variable_is_filled_in_once(tmp_path: Path, text: str, value: str) -> None:
    settings = loaded(tmp_path, yaml.safe_dump({"teams": {"t": {"keys": [text]}}}).encode(), ENV).settings
    assert settings.teams["t"].keys[0].get_secret_value() == value


@pytest.mark.parametrize("text", ['server: {port: "${PORT}"}', "server:\n  port: ${PORT}", "server: &s\n  port: '${PORT}'"])
def test_a_number_may_come_from_a_variable(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text, ENV).settings.server.port == 9000


def test_a_key_of_the_file_is_not_filled_in(tmp_path: Path) -> None:
    assert places(refused(tmp_path, '"${HOST}": 1', ENV))[0].startswith("1:1: `${HOST}` is not a key")


def test_a_comment_needs_no_variable(tmp_path: Path) -> None:
    assert loaded(tmp_path, "# ${NONE}\nserver: {port: 1}").settings.server.port == 1


def test_a_text_that_is_used_again_by_an_anchor_is_filled_in_too(tmp_path: Path) -> None:
    settings = loaded(tmp_path, 'server: {host: &h "${HOST}"}\nteams: {t: {keys: [*h]}}', ENV).settings
    assert settings.server.host == settings.teams["t"].keys[0].get_secret_value() == "10.0.0.1"


REFUSED = [
    ("${NONE}", "the environment variable NONE is not set; set it, or give a default: ${NONE:-…}"),
    ("a ${HOST} ${NONE}", "the environment variable NONE is not set; set it, or give a default: ${NONE:-…}"),
    ("${}", "`${}` is not a variable; write ${NAME}, ${NAME:-default} or ${file:PATH}, and $$ for a dollar sign"),
    ("${:-x}", "`${:-x}` is not a variable; write ${NAME}, ${NAME:-default} or ${file:PATH}, and $$ for a dollar sign"),
    ("${A B}", "`${A B}` is not a variable; write ${NAME}, ${NAME:-default} or ${file:PATH}, and $$ for a dollar sign"),
    ("${1A}", "`${1A}` is not a variable; write ${NAME}, ${NAME:-default} or ${file:PATH}, and $$ for a dollar sign"),
    ("${NAME-x}", "`${NAME-x}` is not a variable; write ${NAME}, ${NAME:-default} or ${file:PATH}, and $$ for a dollar sign"),
    ("${HÖST}", "`${HÖST}` is not a variable; write ${NAME}, ${NAME:-default} or ${file:PATH}, and $$ for a dollar sign"),
    ("${HOST", "`${` without its `}`; write $$ for a dollar sign"),
    ("${NONE:-${HOST}}", "`${NONE:-${HOST}` holds another variable, which a variable cannot"),
    ("${file:nope}", "the file of `${file:nope}` cannot be read: No such file or directory"),
    ("${file:}", "the file of `${file:}` cannot be read: Is a directory"),
    ("${file:.}", "the file of `${file:.}` cannot be read: Is a directory"),
    ("${file:~nobody-here/x}", "the file of `${file:~nobody-here/x}` cannot be read: No such file or directory"),
    ("${file:binary}", "the file of `${file:binary}` cannot be read: it is not UTF-8 text"),
    ("${file:/dev/zero}", "the file of `${file:/dev/zero}` is larger than 1048576 bytes"),
    ("${file:a\0b}", "the file of `${file:a\\x00b}` cannot be read: that is no path"),
    ("${A\nB}", "`${A\\nB}` is not a variable; write ${NAME}, ${NAME:-default} or ${file:PATH}, and $$ for a dollar sign"),
]


@pytest.mark.parametrize(("text", "told"), REFUSED, ids=[ascii(text) for text, _ in REFUSED])
def test_a_variable_that_cannot_be_filled_in_is_refused_at_its_place(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    file = yaml.safe_dump({"teams": {"t": {"keys": [text]}}}, default_style='"', default_flow_style=True, width=1000).encode()
    assert places(refused(tmp_path, file, ENV)) == [f"1:27: {told}"]


def test_every_unset_variable_is_told_at_once(tmp_path: Path) -> None:
    told = places(refused(tmp_path, "server:\n  host: ${A}\n  port: ${B}\n"))
    assert [line.split(";")[0] for line in told] == ["2:9: the environment variable A is not set", "3:9: the environment variable B is not set"]


@pytest.mark.parametrize("content", ["sk-file", "sk-file\n", "sk-file\r\n", "sk-file\n\n"])
def test_a_file_is_filled_in_without_its_last_lines_end(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_bytes(content.encode())
    for path in ("key", str(tmp_path / "key")):
        settings = loaded(tmp_path, f'teams: {{t: {{keys: ["${{file:{path}}}"]}}}}').settings
        assert settings.teams["t"].keys[0].get_secret_value() == "sk-file"


def test_what_a_file_holds_is_not_filled_in_again(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("${HOST}$$")
    settings = loaded(tmp_path, 'teams: {t: {keys: ["${file:key}"]}}', ENV).settings
    assert settings.teams["t"].keys[0].get_secret_value() == "${HOST}$$"


# --- secrets -------------------------------------------------------------------------------------------------------------
SECRET = "sk-very-secret-9f3a"
# a secret in every place of the file where a reader might put one by mistake
MISPLACED = [
    "server: {host: '${S}', prot: 1}",
    "server: {host: '${S}..'}",
    "server: {port: '${S}'}",
    "server: {workers: '${S}'}",
    "server: {body_idle_s: '${S}'}",
    "state: {database: '${S}'}",
    "state: {redis: 'http://:${S}@h'}",
    "state: '${S}'",
    "'${S}'",
    "- '${S}'",
    "providers: {p: {kind: '${S}'}}",
    "providers: {p: '${S}'}",
    "providers: {p: {kind: openai, api_key: ['${S}']}}",
    "providers: {p: {kind: openai, api_key: '${S} x'}}",
    "providers: {p: {kind: openai, base_url: '${S}', api_key: x}}",
    "providers: {p: {kind: openai, base_url: 'http://u:${S}@h/', api_key: x}}",
    "providers: {p: {kind: openai, base_url: 'http://[${S}', api_key: x}}",
    "providers: {p: {kind: openai, base_url: 'http://h:${S}', api_key: x}}",
    "providers: {p: {kind: ollama, transport: '${S}'}}",
    "providers: {p: {kind: ollama, timeouts: '${S}'}}",
    "providers: {p: {kind: ollama, timeouts: {total_s: '${S}'}}}",
    "providers: {p: {kind: ollama, headers: '${S}'}}",
    "providers: {p: {kind: ollama, headers: {x: ' ${S}'}}}",
    "engines: {e: {kind: '${S}', model: x}}",
    "engines: {e: {kind: llamacpp, model: '${S}'}}",
    "engines: {e: {kind: llamacpp, model: 'builtin:${S}'}}",
    "models: {m: {policy: '${S}', targets: [{engine: e}]}}",
    "models: {m: {targets: '${S}'}}",
    "models: {m: {targets: ['${S}']}}",
    "models: {m: {targets: [{engine: '${S}'}]}}",
    "models: {m: {targets: [{provider: '${S}'}]}}",
    "models: {m: {targets: [{provider: o, price: '${S}'}]}}",
    "models: {m: {targets: [{provider: o, price: {input_usd_per_mtok: '${S}', output_usd_per_mtok: 1}}]}}",
    "providers: {o: {kind: ollama}}\nmodels: {m: {targets: [{provider: o, model: '${S}*'}]}}",
    "policies: {p: {objective: '${S}'}}",
    "policies: {p: {residency: '${S}'}}",
    "policies: {p: {fallback: '${S}'}}",
    "policies: {p: {hedge: '${S}'}}",
    "policies: {p: {hedge: {after: '${S}'}}}",
    "policies: {p: {slo: {deadline_ms: '${S}'}}}",
    "policies: {p: {objective: {weighted: {cost: '${S}'}}}}",
    "policies: {p: {residency: ['${S} ']}}",
    "providers: {p: {kind: ollama, api_keys: ['${S}', '${S}']}}",
    "providers: {p: {kind: ollama, api_keys: '${S}'}}",
    "providers: {p: {kind: ollama, region: '${S}'}}\npolicies: {p: {residency: ['${S}x']}}\nmodels: {m: {policy: p, targets: [{provider: p}]}}",
    "providers: {p: {kind: ollama}}\npolicies: {p: {objective: cheapest}}\nmodels: {m: {policy: p, targets: [{provider: p, model: '${S}'}]}}",
    "teams: {t: {overrides: '${S}'}}",
    "teams: {t: {overrides: ['${S}']}}",
    "teams: {t: {policy: '${S}'}}",
    "teams: {t: {models: ['${S}']}}",
    "teams: {t: {keys: '${S}'}}",
    "teams: {t: {keys: [['${S}']]}}",
    "teams: {a: {keys: ['${S}']}, b: {keys: ['${S}']}}",
]


@pytest.mark.parametrize("text", MISPLACED)
def test_what_a_variable_held_is_in_no_error(tmp_path: Path, text: str) -> None:
    error = refused(tmp_path, text, {"S": SECRET})
    assert SECRET not in str(error) and SECRET not in repr(error) and SECRET not in repr(error.findings)


@pytest.mark.parametrize("text", MISPLACED)
def test_what_a_file_held_is_in_no_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret").write_text(SECRET)
    error = refused(tmp_path, text.replace("${S}", "${file:secret}"))
    assert SECRET not in str(error) and SECRET not in repr(error) and SECRET not in repr(error.findings)


def test_an_unknown_name_from_a_variable_is_shown_as_it_is_written(tmp_path: Path) -> None:
    told = places(refused(tmp_path, "engines: {cpu: {kind: llamacpp, model: 'builtin:${W}'}}", {"W": SECRET}))
    assert told == ["1:40: there is no built-in model `builtin:${W}`; known: builtin:smollm2-135m-instruct"]


def test_what_a_variable_held_is_in_no_advice(tmp_path: Path) -> None:
    text = "providers: {o: {kind: openai, api_key: '${S}'}}\nmodels: {m: {targets: [{provider: o, model: '${S}'}]}}"
    (finding,) = loaded(tmp_path, text, {"S": SECRET}).advice
    assert shown("f", finding) == "f:2:24: the price of `${S}` at `o` is not known, so its cost would be null; add `price`"


def test_secrets_are_in_no_representation_of_the_settings(tmp_path: Path) -> None:
    text = """
        providers:
          a: {kind: openai, api_key: "${S}", headers: {x-key: "${S}"}}
        models:
          m: {targets: [{provider: a, model: gpt-4o-mini}]}
        teams:
          t: {keys: ["${S}"]}
    """
    result = loaded(tmp_path, text, {"S": SECRET})
    assert result.settings.providers["a"].headers == {"x-key": SECRET}
    for told in (repr(result), str(result), repr(result.settings), str(result.settings), *result.key_report):
        assert SECRET not in told
