"""The engines section: what each kind takes, and what is said of what it does not take."""

from pathlib import Path

import pytest

from config.engines import EngineSettings, PurchaseSettings
from tests.config.files import loaded, places, refused

REFUSED = [
    ("kind: llamacpp, model: m, tensor_parallel: 2", "tensor_parallel is nothing that the kind llamacpp has"),
    ("kind: vllm, model: m, threads: 2", "threads is nothing that the kind vllm has"),
    ("kind: llamacpp, model: m, quantization: fp8", "quantization fp8 is none that a GGUF file has; it has auto, F32, F16"),
    ("kind: llamacpp, model: m, kv_cache_dtype: fp8", "kv_cache_dtype is nothing that the kind llamacpp has"),
    ("kind: vllm, model: m, quantization: gguf", "quantization gguf is none that vLLM has; it has auto, int8, nvfp4, fp8, fp8_per_tensor"),
    ("kind: vllm, model: m, gpus: [0], tensor_parallel: 2", "gpus are fewer than tensor_parallel * pipeline_parallel * data_parallel need"),
    ("kind: vllm, model: m, args: [--uds, /tmp/x]", "must not hold --uds: the gateway sets it by a key of its own"),
    (
        "kind: vllm, model: m, args: [--allowed-media-domains=a.example]",
        "must not hold --allowed-media-domains: the gateway sets it by a key of its own",
    ),
    ("kind: vllm, model: m, media_domains: ['https://a.example']", "must be a host's name in small letters"),
    ("kind: llamacpp, model: m, media_domains: [a.example]", "media_domains is nothing that the kind llamacpp has"),
    ("kind: vllm, model: m, args: [--quantization, awq]", "must not hold --quantization: the gateway sets it by a key of its own"),
    ("kind: vllm, model: m, args: [-q=awq]", "must not hold -q: the gateway sets it by a key of its own"),
    ("kind: vllm, model: m, gpus: [0, 0]", "gpus name a GPU twice"),
    ("kind: vllm, model: m, tool_parser: 'a b'", "must be a name of vLLM's --tool-call-parser"),
]


@pytest.mark.parametrize(("engine", "told"), REFUSED, ids=[engine for engine, _ in REFUSED])
def test_what_a_kind_does_not_take_is_refused_in_words(tmp_path: Path, engine: str, told: str) -> None:
    (place,) = places(refused(tmp_path, f"engines: {{g: {{{engine}}}}}"))
    assert told in place


def test_what_vllm_needs_is_looked_for(tmp_path: Path) -> None:
    engine = "{kind: vllm, model: /nowhere, python: /no/python, chat_template: /no.jinja, adapters: {a: /no/a}}"
    found = places(refused(tmp_path, f"engines: {{g: {engine}}}\nmodels: {{m: {{targets: [{{engine: g, model: b}}]}}}}"))
    assert [place.partition(": ")[2].split(";")[0] for place in found] == [
        "is no folder with a config.json: name the folder of a checkpoint",
        "there is no such interpreter",
        "there is no such file",
        "there is no such folder",
        "there is no adapter `b`",
    ]


@pytest.mark.parametrize(
    ("config", "more", "is_refused"),
    [
        ('{"max_position_embeddings": 8192}', "", True),
        ('{"text_config": {"max_position_embeddings": 8192}}', "", True),
        ('{"max_position_embeddings": 100000}', "", False),
        ('{"max_position_embeddings": 8192, "rope_scaling": {"rope_type": "yarn", "factor": 16.0}}', "", False),
        ('{"max_position_embeddings": 8192, "rope_scaling": null}', ", args: ['--hf-overrides={}']", False),
        ("{}", "", False),
        ("no JSON", "", False),
    ],
)
def test_a_context_beyond_what_the_model_takes_is_refused(tmp_path: Path, config: str, more: str, is_refused: bool) -> None:
    (tmp_path / "config.json").write_text(config)
    text = f"engines: {{g: {{kind: vllm, model: {tmp_path}, context: 100000{more}}}}}\nmodels: {{m: {{targets: [{{engine: g}}]}}}}"
    if not is_refused:
        assert loaded(tmp_path, text).settings.engines["g"].context == 100000
        return
    (place,) = places(refused(tmp_path, text))
    assert "is more than the 8,192 tokens that the model takes" in place


@pytest.mark.parametrize(("context", "is_told"), [(8192, False), (8193, True)])
def test_a_context_beyond_what_a_gguf_file_s_model_was_trained_for_is_told(tmp_path: Path, context: int, is_told: bool) -> None:
    engine = f'{{kind: llamacpp, model: "builtin:smollm2-135m-instruct", context: {context}}}'
    text = f"engines: {{g: {engine}}}\nmodels: {{m: {{targets: [{{engine: g}}]}}}}"
    advice = [found.message for found in loaded(tmp_path, text).advice]
    assert [("8,192 tokens that the model was trained for" in each) for each in advice] == [True] * is_told


def test_an_adapter_is_a_target_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "lora").mkdir()
    text = (
        f"engines: {{g: {{kind: vllm, model: {tmp_path}, adapters: {{a: {tmp_path}/lora}}}}}}\nmodels: {{m: {{targets: [{{engine: g, model: a}}]}}}}"
    )
    assert loaded(tmp_path, text).settings.models["m"].targets[0].model == "a"


RAY = "engines: {f: {kind: ray-serve, model: 'builtin:smollm2-135m-instruct', "


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (RAY + "replicas: 2}}", "python is missing"),
        (RAY + "python: /p, replicas: 3, max_replicas: 2}}", "max_replicas are fewer than replicas"),
        (RAY + "python: /p, gpus: [0]}}", "gpus is nothing that the kind ray-serve has"),
        ("engines: {g: {kind: llamacpp, model: m, gpus: [0, 1, 2], replicas: 2}}", "gpus cannot be shared out evenly"),
        ("engines: {g: {kind: llamacpp, model: m, max_replicas: 2}}", "max_replicas is nothing that the kind llamacpp has"),
        ("engines: {g: {kind: llamacpp, model: m, gpu_usd_per_hour: 1, purchase: {usd: 9000}}}", "both say what its hour costs"),
    ],
)
def test_what_engines_in_numbers_cannot_be_is_refused(tmp_path: Path, text: str, told: str) -> None:
    assert any(told in place for place in places(refused(tmp_path, text)))


def test_replicas_have_names_and_gpus_of_their_own() -> None:
    engine = EngineSettings(kind="llamacpp", model="builtin:x", replicas=2, gpus=(0, 1, 2, 3))
    assert {name: each.gpus for name, each in engine.each("g").items()} == {"g-1": (0, 1), "g-2": (2, 3)}
    assert list(EngineSettings(kind="ray-serve", model="m", python="/p", replicas=2).each("g")) == ["g"], "Ray's are behind one name"


def test_an_hour_of_a_machine_that_was_bought_costs_its_wear_and_its_power() -> None:
    bought = EngineSettings(kind="llamacpp", model="builtin:x", purchase=PurchaseSettings(usd=8766.0, years=1, power_w=500, usd_per_kwh=0.4))
    assert bought.usd_per_hour == pytest.approx(1.0 + 0.2)


def test_all_that_is_wrong_with_an_engine_is_told_at_once(tmp_path: Path) -> None:
    (place,) = places(
        refused(tmp_path, "engines: {g: {kind: llamacpp, model: m, dtype: auto, args: [--x], quantization: fp8, gpus: [0, 1, 2], replicas: 2}}")
    )
    assert "dtype, args are nothing that the kind llamacpp has; quantization fp8 is none" in place and "; gpus cannot be shared out evenly" in place


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ("", "", ["GPU 0 has not enough memory for them all: 0.9 for `a` + 0.9 for `b` of it are 1.8"]),
        ("gpus: [0]", "gpus: [1]", []),
        ("gpu_memory_utilization: 0.5", "gpu_memory_utilization: 0.5", []),
        (
            "tensor_parallel: 2, gpu_memory_utilization: 0.5",
            "gpus: [1]",
            ["GPU 1 has not enough memory for them all: 0.5 for `a` + 0.9 for `b` of it are 1.4"],
        ),
        ("", "replicas: 2, gpus: [1, 0]", ["GPU 0 has not enough memory for them all: 0.9 for `a` + 0.9 for `b-2` of it are 1.8"]),
        ("sleep_when_idle: 60", "sleep_when_idle: 60", []),
    ],
)
def test_engines_that_want_more_of_a_gpu_than_there_is_are_noted(tmp_path: Path, a: str, b: str, told: list[str]) -> None:
    (tmp_path / "config.json").write_text("{}")
    engines = {name: f"{{kind: vllm, model: {tmp_path}, {more}}}" for name, more in (("a", a), ("b", b))}
    text = f"engines: {{a: {engines['a']}, b: {engines['b']}}}\nmodels: {{m: {{targets: [{{engine: a}}, {{engine: b}}]}}}}"
    assert [note.message.split("; give")[0] for note in loaded(tmp_path, text).notes if "GPU" in note.message] == told
