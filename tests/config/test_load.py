"""The loader: what a configuration means, and what is refused, where and with which words."""

from pathlib import Path

import pytest
import yaml

from config.document import ConfigError
from config.load import load
from tests.config.files import BASE, KNOWN, ROOT, loaded, places, refused, written

CONTRACT = (Path(__file__).parent / "contract.yaml").read_text()
DATABASE = "must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE, with /, ? and # in a password as %2F, %3F and %23"
CONTRACT_ENV = {"OPENAI_API_KEY": "sk-o", "ANTHROPIC_API_KEY": "sk-a", "SEARCH_KEY": "sk-s"}


# --- what loads --------------------------------------------------------------------------------------------------------
def test_the_base_of_these_tests_loads_with_nothing_to_say(tmp_path: Path) -> None:
    result = loaded(tmp_path, BASE)
    assert result.advice == []
    assert result.settings.models["chat"].targets[0].provider == "lab"
    assert result.key_report == ["providers  lab", "engines    cpu"]


def test_the_example_loads_without_any_variable_and_with_nothing_to_say() -> None:
    result = load(ROOT / "config" / "example.yaml", {}, KNOWN)
    assert result.advice == []
    assert list(result.settings.models) == ["chat"]


def test_the_example_with_its_comments_taken_away_loads_too(tmp_path: Path) -> None:
    lines = (ROOT / "config" / "example.yaml").read_text().splitlines()
    told = [line for line in lines[:2] if line.startswith("#")] + [line for line in lines if line.startswith("# ") and line.endswith(".")]
    text = "\n".join(line if line in told else line.replace("# ", "", 1) for line in lines)
    result = loaded(tmp_path, text.encode(), {"OPENAI_API_KEY": "sk-o", "SEARCH_KEY": "sk-s"})
    assert list(result.settings.providers) == ["openai", "lab"] and "oai/*" in result.settings.models and "search" in result.settings.teams


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}\n"])
def test_an_empty_file_is_a_configuration_that_offers_nothing_and_says_so(tmp_path: Path, text: str) -> None:
    result = loaded(tmp_path, text.encode())
    assert [finding.message for finding in result.advice] == ["`models` is missing: there is nothing that a client could ask for"]
    assert result.settings.server.port == 8080


def test_a_file_with_a_byte_order_mark_loads(tmp_path: Path) -> None:
    assert loaded(tmp_path, b"\xef\xbb\xbfserver: {port: 9}\n").settings.server.port == 9


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    settings = loaded(tmp_path, BASE).settings
    with pytest.raises(ValueError, match="frozen"):
        settings.server.port = 1  # type: ignore[misc]


# --- the contract's example ------------------------------------------------------------------------------------------------
def test_the_contracts_example_lacks_nothing_but_the_weights(tmp_path: Path) -> None:
    error = refused(tmp_path, CONTRACT.encode(), CONTRACT_ENV)
    assert all("engines.gpu" in finding.message or "/models/" in finding.message or "folder" in finding.message for finding in error.findings)
    assert not any("not supported yet" in finding.message for finding in error.findings)


def test_the_contracts_example_without_its_later_features_loads(tmp_path: Path) -> None:
    data = yaml.safe_load(CONTRACT)
    del data["engines"]["gpu"]
    data["models"]["chat"]["targets"] = [
        {"provider": "openai", "model": "gpt-4o-mini"},
        {"provider": "anthropic", "model": "claude-sonnet-4-5"},
        {"engine": "cpu"},
    ]
    result = loaded(tmp_path, yaml.safe_dump(data).encode(), CONTRACT_ENV)
    assert result.advice == []
    assert result.settings.providers["lab"].timeouts.first_token_s == 20


LATER = [
    (
        "models: {m: {targets: [{engine: g, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 1}}]}}",
        "1:24: `models.m.targets.0`: an engine's price is not supported yet",
    ),
]


@pytest.mark.parametrize(("text", "told"), LATER, ids=[text for text, _ in LATER])
def test_a_later_feature_is_refused_at_its_place(tmp_path: Path, text: str, told: str) -> None:
    (place,) = places(refused(tmp_path, text))
    assert place.startswith(told)


NOTHING = ["teams: {t: {limits: null, budget: ~}}", "server: {workers: 1}"]


@pytest.mark.parametrize("text", NOTHING)
def test_a_later_feature_that_is_switched_off_is_no_fault(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text).settings


# --- keys ----------------------------------------------------------------------------------------------------------------
TARGET = "models: {m: {targets: [{engine: cpu, %s}]}}"
UNKNOWN_KEYS = [
    ("sever: {port: 1}", "1:1: `sever` is not a key of the configuration; did you mean `server`?"),
    (
        "zzz: 1",
        "1:1: `zzz` is not a key of the configuration; known: admin, alerts, batch,"
        " engines, ledger, metrics, models, organisations, policies, providers, server, state, teams, telemetry",
    ),
    ("server: {prot: 1}", "1:10: `prot` is not a key of server; did you mean `port`?"),
    ("state: {databse: x}", "1:9: `databse` is not a key of state; did you mean `database`?"),
    ("providers: {a: {kind: ollama, baseurl: x}}", "1:31: `baseurl` is not a key of providers.a; did you mean `base_url`?"),
    ("providers: {a: {kind: ollama, timeouts: {total: 1}}}", "1:42: `total` is not a key of providers.a.timeouts; did you mean `total_s`?"),
    ("engines: {e: {kind: llamacpp, model: m, slot: 1}}", "1:41: `slot` is not a key of engines.e; did you mean `slots`?"),
    ("models: {m: {target: [], targets: [{engine: e}]}}", "1:14: `target` is not a key of models.m; did you mean `targets`?"),
    ("models: {m: {targets: [{engine: e, modle: x}]}}", "1:36: `modle` is not a key of models.m.targets.0; did you mean `model`?"),
    (
        "models: {m: {targets: [{provider: p, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 1, request: 1}}]}}",
        "1:93: `request` is not a key of models.m.targets.0.price; did you mean `request_usd`?",
    ),
    ("policies: {p: {fallbak: any}}", "1:16: `fallbak` is not a key of policies.p; did you mean `fallback`?"),
    ("policies: {p: {retry: {attempts: 3}}}", "1:24: `attempts` is not a key of policies.p.retry; did you mean `max_attempts`?"),
    ("teams: {t: {key: [x]}}", "1:13: `key` is not a key of teams.t; did you mean `keys`?"),
    ("server: {1: 2}", "1:10: `1` is not a key of server; known: body_idle_s, host, max_body_bytes, port, workers"),
    ("server:\n  port: 80\n  hsot: x", "3:3: `hsot` is not a key of server; did you mean `host`?"),
]


@pytest.mark.parametrize(("text", "told"), UNKNOWN_KEYS, ids=[told.split("`")[1] for _, told in UNKNOWN_KEYS])
def test_an_unknown_key_is_refused_at_its_place_with_a_suggestion(tmp_path: Path, text: str, told: str) -> None:
    assert places(refused(tmp_path, text)) == [told]


MISSING_KEYS = [
    ("providers: {a: {api_key: k}}", "1:13: `providers.a.kind` is missing"),
    ("engines: {e: {model: m}}", "1:11: `engines.e.kind` is missing"),
    ("engines: {e: {kind: llamacpp}}", "1:11: `engines.e.model` is missing"),
    ("models: {m: {}}", "1:10: `models.m.targets` is missing"),
    (
        "models: {m: {targets: [{provider: p, price: {input_usd_per_mtok: 1}}]}}",
        "1:38: `models.m.targets.0.price.output_usd_per_mtok` is missing",
    ),
    ("models: {m: {targets: []}}", "1:23: `models.m.targets`: must have at least one entry"),
    ("models: {m: {targets: [{}]}}", "1:24: `models.m.targets.0`: a target names either a provider or an engine"),
    ("models: {m: {targets: [{provider: p, engine: e}]}}", "1:24: `models.m.targets.0`: a target names either a provider or an engine"),
]


@pytest.mark.parametrize(("text", "told"), MISSING_KEYS, ids=[text for text, _ in MISSING_KEYS])
def test_a_missing_key_is_told_at_what_lacks_it(tmp_path: Path, text: str, told: str) -> None:
    assert places(refused(tmp_path, text)) == [told]


def test_a_key_that_stands_twice_is_refused_where_it_stands_again(tmp_path: Path) -> None:
    assert places(refused(tmp_path, "server:\n  port: 1\n  port: 2")) == ["3:3: the key `port` stands here twice"]


@pytest.mark.parametrize("text", ["? [a]\n: b", "? {a: b}\n: c", '"\\ud800": 1'])
def test_a_key_that_is_no_plain_word_is_refused(tmp_path: Path, text: str) -> None:
    (told,) = places(refused(tmp_path, text))
    assert told.endswith("a key must be a plain word")


def test_every_fault_is_told_at_once_in_the_files_order(tmp_path: Path) -> None:
    text = "teams: {t: {key: []}}\nserver: {prot: 1, port: x}\nmodels: 3"
    assert [told.split(": ")[0] for told in places(refused(tmp_path, text))] == ["1:13", "2:10", "2:25", "3:9"]


# --- values --------------------------------------------------------------------------------------------------------------
SECTION = "must be a section: `key: value` lines"
WRONG_VALUES = [
    ("[1, 2]", f"1:1: `the file`: {SECTION}"),
    ("just text", f"1:1: `the file`: {SECTION}"),
    ("5", f"1:1: `the file`: {SECTION}"),
    ("server: 4", f"1:9: `server`: {SECTION}"),
    ("server:", f"1:8: `server`: {SECTION}"),
    ("teams: [a]", f"1:8: `teams`: {SECTION}"),
    ("providers: {a: openai}", f"1:16: `providers.a`: {SECTION}"),
    ("providers: {a: {kind: ollama, headers: [x]}}", f"1:40: `providers.a.headers`: {SECTION}"),
    ("models: {m: {targets: {engine: e}}}", "1:23: `models.m.targets`: must be a list"),
    ("teams: {t: {keys: sk}}", "1:19: `teams.t.keys`: must be a list"),
    ("server: {host: 4}", "1:16: `server.host`: must be text; put it in quotes"),
    ("server: {host: ''}", "1:16: `server.host`: must not be empty"),
    ("server: {host: a..b}", "1:16: `server.host`: is not an address to listen on"),
    ("server: {port: many}", "1:16: `server.port`: should be a valid integer, unable to parse string as an integer"),
    ("server: {port: [1]}", "1:16: `server.port`: should be a valid integer"),
    ("server: {port: 65536}", "1:16: `server.port`: should be less than or equal to 65535"),
    ("server: {port: 8080.5}", "1:16: `server.port`: should be a valid integer, got a number with a fractional part"),
    ("server: {body_idle_s: 0}", "1:23: `server.body_idle_s`: should be greater than 0"),
    ("server: {body_idle_s: .nan}", "1:23: `server.body_idle_s`: should be less than or equal to 86400"),
    ("server: {body_idle_s: .inf}", "1:23: `server.body_idle_s`: should be less than or equal to 86400"),
    ("providers: {a: {kind: ollama, api_key: 12345}}", "1:40: `providers.a.api_key`: must be text; put it in quotes"),
    ("providers: {a: {kind: ollama, transport: curl}}", "1:42: `providers.a.transport`: should be 'native' or 'httpx'"),
    ("providers: {a: {kind: ollama, headers: {'a b': x}}}", "1:41: the name `a b` is not allowed: it must be letters, digits and `-`"),
    (
        "providers: {a: {kind: ollama, headers: {Content-Length: '5'}}}",
        "1:41: the name `Content-Length` is not allowed: the gateway sets this header itself",
    ),
    (
        'providers: {a: {kind: ollama, headers: {x: "a\\r\\nb: c"}}}',
        "1:44: `providers.a.headers.x`: must be printable ASCII, without a space at either end",
    ),
    ('providers: {a: {kind: ollama, api_key: "a\\nb"}}', "1:40: `providers.a.api_key`: holds a space or a character that a key cannot have"),
    ("engines: {e: {kind: llama, model: m}}", "1:21: `engines.e.kind`: should be 'llamacpp', 'vllm' or 'ray-serve'; did you mean `llamacpp`?"),
    ("engines: {e: {kind: llamacpp, model: m, slots: 0}}", "1:48: `engines.e.slots`: should be greater than or equal to 1"),
    (
        "engines: {e: {kind: llamacpp, model: m, context: 100, max_prompt_tokens: 100}}",
        "1:14: `engines.e`: max_prompt_tokens must be below context, which the answer shares",
    ),
    ("policies: {p: {fallback: lcal}}", "1:26: `policies.p.fallback`: should be 'any', 'local' or 'none'; did you mean `local`?"),
    ("policies: {p: {retry: {max_attempts: 11}}}", "1:38: `policies.p.retry.max_attempts`: should be less than or equal to 10"),
    ("teams: {t: {keys: ['']}}", "1:20: `teams.t.keys.0`: must not be empty"),
    (
        "teams: {t: {keys: [' sk']}}",
        "1:20: `teams.t.keys.0`: is no key that a client could send: it has a space at an end, or a control character",
    ),
    (
        'teams: {t: {keys: ["a\\nb"]}}',
        "1:20: `teams.t.keys.0`: is no key that a client could send: it has a space at an end, or a control character",
    ),
    ("state: {database: 'postgresql://u:p/w@db/turnout'}", f"1:19: `state.database`: {DATABASE}"),
    ("state: {database: 'mysql://u:canary@db/turnout'}", f"1:19: `state.database`: {DATABASE}"),
    ("state: {database: 'sqlite:///'}", f"1:19: `state.database`: {DATABASE}"),
    (
        "providers: {'a b': {kind: ollama}}",
        "1:13: the name `a b` is not allowed: it must be a letter or digit, then letters, digits, `_`, `.` and `-`, 100 in all at most",
    ),
    ("server: {body_idle_s: 1" + "0" * 400 + "}", "1:23: this number is too large"),
    ('server: {host: "\\ud800"}', "1:16: this is no text: it holds half a character"),
]


@pytest.mark.parametrize(("text", "told"), WRONG_VALUES, ids=[text[:60] for text, _ in WRONG_VALUES])
def test_a_wrong_value_is_refused_at_its_place(tmp_path: Path, text: str, told: str) -> None:
    assert places(refused(tmp_path, text)) == [told]


@pytest.mark.parametrize("word", ["yes", "no", "on", "true", "False"])
@pytest.mark.parametrize("text", ["server: {port: %s}", "server: {body_idle_s: %s}", "policies: {p: {fallback: %s}}"])
def test_yes_and_no_are_neither_numbers_nor_words(tmp_path: Path, text: str, word: str) -> None:
    (told,) = places(refused(tmp_path, text % word))
    assert "must not be true or false" in told


@pytest.mark.parametrize("name", ["a b", "**", "a*b*", "", "x" * 201])
def test_a_models_name_has_no_space_one_star_at_most_and_a_sane_length(tmp_path: Path, name: str) -> None:
    (told,) = places(refused(tmp_path, f'models: {{"{name}": {{targets: [{{engine: e}}]}}}}'))
    assert told.startswith(f"1:10: the name `{name}` is not allowed: ")


@pytest.mark.parametrize(
    "url",
    [
        "localhost:1",
        "ftp://h/",
        "http://",
        "http:///v1",
        "http://u:p@h/v1",
        "http://h/v1?a=b",
        "http://h/#x",
        "http://h h/",
        "http://h:99999/v1",
        "http://h:0/v1",
        "http://[::1/v1",
        "http://h/ü",
        "http://h:x/v1",
    ],
)
def test_a_base_url_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    (told,) = places(refused(tmp_path, f'providers: {{a: {{kind: openai-compatible, base_url: "{url}"}}}}'))
    assert told.startswith("1:52: `providers.a.base_url`: ")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9100/v1", "https://api.example", "http://[::1]:8000/v1/", "https://h/a/b@c"])
def test_a_base_url_may_have_a_port_and_a_path(tmp_path: Path, url: str) -> None:
    result = loaded(tmp_path, f'providers: {{a: {{kind: openai-compatible, base_url: "{url}"}}}}')
    assert result.settings.providers["a"].base_url == url


@pytest.mark.parametrize("key", ["k", "my own key", "ключ", "a" * 5000, "' OR 1=1 --"])
def test_a_teams_key_may_be_any_text_that_a_client_may_send(tmp_path: Path, key: str) -> None:
    settings = loaded(tmp_path, f'teams: {{t: {{keys: ["{key}"]}}}}').settings
    assert settings.teams["t"].keys[0].get_secret_value() == key


# --- names that refer to something -----------------------------------------------------------------------------------------
NAMES = [
    (
        "lab: {kind: openai-compatible",
        "lab: {kind: openai-compatibel",
        "3:15: there is no kind `openai-compatibel`; did you mean `openai-compatible`?",
    ),
    ("{provider: lab", "{provider: lob", "7:52: there is no provider `lob`; did you mean `lab`?"),
    ("{engine: cpu}", "{engine: cpuu}", "7:123: there is no engine `cpuu`; did you mean `cpu`?"),
    ("chat: {policy: interactive", "chat: {policy: interactiv", "7:18: there is no policy `interactiv`; did you mean `interactive`?"),
    ("models: [chat]", "models: [chatt]", "11:21: there is no model `chatt`; did you mean `chat`?"),
    ("search: {models: [chat]", "search: {organisation: oo, models: [chat]", "11:26: there is no organisation `oo`"),
    ("search: {models: [chat]", "search: {policy: xyz, models: [chat]", "11:20: there is no policy `xyz`; known: interactive"),
    (
        "builtin:smollm2-135m-instruct",
        "builtin:smollm-135m-instruct",
        "5:32: there is no built-in model `builtin:smollm-135m-instruct`; did you mean `builtin:smollm2-135m-instruct`?",
    ),
    ("builtin:smollm2-135m-instruct", "/nowhere/x.gguf", "5:32: there is no such file; name a GGUF file, or builtin:NAME"),
    ("builtin:smollm2-135m-instruct", "~nobody-here/x.gguf", "5:32: there is no such file; name a GGUF file, or builtin:NAME"),
    ("  cpu: {kind", "  lab: {kind: llamacpp, model: 'builtin:smollm2-135m-instruct'}\n  cpu: {kind", "3:3: `lab` is the name of an engine too"),
]


@pytest.mark.parametrize(("old", "new", "told"), NAMES, ids=[new[:50] for _, new, _ in NAMES])
def test_a_name_that_refers_to_nothing_is_refused_with_a_suggestion(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert told in places(refused(tmp_path, BASE.replace(old, new, 1).encode()))


def test_a_kind_without_a_url_of_its_own_needs_one(tmp_path: Path) -> None:
    told = places(refused(tmp_path, "providers:\n  a: {kind: openai-compatible}"))
    assert told == ["2:3: `providers.a.base_url` is missing: the kind `openai-compatible` has no URL of its own"]


@pytest.mark.parametrize("key", ["", ', api_key: ""', ", api_key: null", ', api_key: "${NONE:-}"'])
def test_a_kind_with_a_key_variable_needs_a_key_and_the_error_names_the_variable(tmp_path: Path, key: str) -> None:
    told = places(refused(tmp_path, f"providers: {{g: {{kind: groq{key}}}}}"))
    assert told == ['1:13: `providers.g.api_key` is missing; write api_key: "${GROQ_API_KEY}"']


@pytest.mark.parametrize("kind", ["ollama", "vllm", "llama.cpp", "lm-studio", "tgi"])
def test_a_kind_on_the_users_own_machine_needs_neither_key_nor_url(tmp_path: Path, kind: str) -> None:
    assert loaded(tmp_path, f"providers: {{a: {{kind: {kind}}}}}").settings.providers["a"].kind == kind


def test_the_same_key_in_two_teams_is_refused_without_being_shown(tmp_path: Path) -> None:
    error = refused(tmp_path, "teams:\n  a: {keys: [sk-same]}\n  b: {keys: [sk-other, sk-same]}")
    assert places(error) == ["3:24: this key is one of team `a` too; a key stands for one team"]


def test_the_admin_key_opens_nothing_else_and_owners_own_teams_that_there_are(tmp_path: Path) -> None:
    text = """
        teams: {a: {keys: [sk-of-both-0123456789]}}
        admin:
          key: sk-of-both-0123456789
          oidc: {issuer: "https://id.example", client_id: turnout, team_owners: {leads: [a, b]}}
        """
    assert places(refused(tmp_path, text)) == [
        "3:8: the key is one of team `a` too; the admin API's opens nothing else",
        "4:85: there is no team `b`; known: a",
    ]


def test_a_star_in_a_target_needs_a_pattern(tmp_path: Path) -> None:
    text = 'providers: {o: {kind: ollama}}\nmodels: {chat: {targets: [{provider: o, model: "*"}]}}'
    assert places(refused(tmp_path, text)) == ["2:48: `*` stands for what a pattern matched, and `chat` is no pattern"]


@pytest.mark.parametrize("target", ['{provider: o, model: "*"}', "{provider: o, model: llama3}", "{provider: o}", '{provider: o, model: "x/*:free"}'])
def test_a_pattern_may_send_what_it_matched_or_one_name(tmp_path: Path, target: str) -> None:
    assert loaded(tmp_path, f'providers: {{o: {{kind: ollama}}}}\nmodels: {{"own/*": {{targets: [{target}]}}}}').advice == []


# --- advice: it works, but not as meant --------------------------------------------------------------------------------------
def advice(folder: Path, text: str) -> list[str]:
    result = loaded(folder, text, {"OPENAI_API_KEY": "sk-o"})
    return [f"{f.place.line}:{f.place.column}: {f.message}" for f in result.advice if f.place]


METERED = "providers: {o: {kind: openai, api_key: '${OPENAI_API_KEY}'}}\nmodels: {chat: {targets: [{provider: o, model: %s}]}}"


def test_a_metered_model_without_a_price_is_advice(tmp_path: Path) -> None:
    (told,) = advice(tmp_path, METERED % "gpt-nobody-sells")
    assert told == "2:27: the price of `gpt-nobody-sells` at `o` is not known, so its cost would be null; add `price`"


def test_a_model_of_a_kind_that_may_be_free_is_noted_without_a_price(tmp_path: Path) -> None:
    text = "providers: {lab: {kind: openai-compatible, base_url: 'http://127.0.0.1:9/v1'}, o: {kind: ollama}}\n"
    result = loaded(tmp_path, text + "models: {chat: {targets: [{provider: lab, model: m}, {provider: o}]}}")
    assert result.advice == []
    assert [(f.place and f.place.column, f.message) for f in result.notes] == [
        (27, "the price of `m` at `lab` is not known, so its cost would be null; add `price`, or `price: free` where nothing is paid")
    ]


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-nobody-sells, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}"])
def test_a_metered_model_with_a_price_is_none(tmp_path: Path, model: str) -> None:
    assert advice(tmp_path, METERED % model) == []


# --- without a file ------------------------------------------------------------------------------------------------------------
def test_without_a_file_there_are_the_engine_and_its_two_names() -> None:
    settings = load(None, {}, KNOWN).settings
    assert list(settings.engines) == ["cpu"] and settings.engines["cpu"].model == "builtin:smollm2-135m-instruct"
    assert list(settings.models) == ["local", "smollm2-135m-instruct"] and not settings.providers
    assert all([target.engine for target in model.targets] == ["cpu"] for model in settings.models.values())


NEED_MORE = ("azure", "vertex", "bedrock")  # a URL, a region or a project: a key alone says too little


@pytest.mark.parametrize(("kind", "variable"), [(k, v) for k, v in KNOWN.provider_kinds.items() if v and k not in NEED_MORE])
def test_without_a_file_a_providers_key_adds_its_pattern_with_the_engine_behind_it(kind: str, variable: str) -> None:
    settings = load(None, {variable: "sk-found"}, KNOWN).settings
    assert list(settings.models) == ["local", "smollm2-135m-instruct", f"{kind}/*"]
    first, second = settings.models[f"{kind}/*"].targets
    assert (first.provider, first.model, second.engine) == (kind, "*", "cpu")
    key = settings.providers[kind].api_key
    assert key is not None and key.get_secret_value() == "sk-found"


@pytest.mark.parametrize("kind", NEED_MORE)
def test_without_a_file_a_kind_that_needs_more_than_a_key_is_neither_added_nor_asked_for(kind: str) -> None:
    result = load(None, {str(KNOWN.provider_kinds[kind]): "sk-found"}, KNOWN)
    assert not result.settings.providers and f"({kind})" not in "\n".join(result.key_report)


def test_without_a_file_an_empty_key_counts_as_none() -> None:
    assert not load(None, {"OPENAI_API_KEY": ""}, KNOWN).settings.providers


def test_without_a_file_the_report_names_variables_and_never_values() -> None:
    report = "\n".join(load(None, {"OPENAI_API_KEY": "sk-found"}, KNOWN).key_report)
    assert "OPENAI_API_KEY (openai/*)" in report and "GROQ_API_KEY (groq)" in report
    assert "sk-found" not in report


def test_without_a_file_or_a_key_the_report_says_so() -> None:
    assert load(None, {}, KNOWN).key_report[0] == "found      no provider key in the environment"


def test_without_a_file_a_key_that_no_request_can_carry_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {"OPENAI_API_KEY": "sk secret\n"}, KNOWN)
    assert "OPENAI_API_KEY" in str(caught.value) and "secret" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.yaml: cannot be read: No such file or directory"):
        load(tmp_path / "nope.yaml", {}, KNOWN)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {}, KNOWN)


def test_a_file_name_of_the_tests_helper_is_in_every_error(tmp_path: Path) -> None:
    assert refused(tmp_path, "server: {prot: 1}").file == str(written(tmp_path, ""))


def test_a_semantic_cache_names_an_entry_of_models(tmp_path: Path) -> None:
    team = "teams: {t: {keys: [sk-t-0123456789], semantic_cache: {embeddings: %s}}}"
    models = "providers: {p: {kind: openai, api_key: k}}\nmodels: {'openai/*': {targets: [{provider: p, model: '*'}]}}\n"
    assert places(refused(tmp_path, models + team % "embed")) == ["3:67: there is no model `embed`; known: openai/*"]
    assert loaded(tmp_path, (models + team % "openai/text-embedding-3-small").encode()).settings.teams["t"].semantic_cache is not None
