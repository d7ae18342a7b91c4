"""An engine's settings as what its supervisor takes."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from config.engines import EngineSettings
from config.home import home
from ledger.prices import NUSD_PER_USD
from providers.local.environment import installed_python
from providers.local.manner import MANNERS
from providers.local.spec import EngineSpec
from providers.local.variants import AUTO, resolve_variant, vllm_name
from providers.local.weights import resolve_checkpoint, resolve_model

OWN_DIALECTS = {name: ("openai_chat", *manner.natives) for name, manner in MANNERS.items()}
ENGINE_LACKS = {"llamacpp": frozenset({"n", "images", "audio", "files"}), "vllm": frozenset({"files"})}
START_S = {"llamacpp": 120.0, "vllm": 1800.0, "ray-serve": 1800.0}


def weights_of(engine: EngineSettings) -> Path:
    """Where its weights lie. Raises WeightsNotFound."""
    if engine.speaks == "vllm":
        return resolve_checkpoint(engine.model)
    models, wanted = home(os.environ) / "models", engine.quantization
    return resolve_model(engine.model, models) if wanted in (None, AUTO) else resolve_variant(engine.model, wanted, models)


def engine_spec(name: str, engine: EngineSettings) -> EngineSpec:
    """Raises WeightsNotFound, ValueError."""
    vllm = engine.speaks == "vllm"
    return EngineSpec(
        name=name,
        kind=engine.kind,
        model_path=str(weights_of(engine)),
        slots=engine.slots,
        ctx_per_slot=engine.context,
        max_prompt_tokens=engine.prompt_tokens,
        threads=engine.threads,
        step_tokens=engine.step_tokens,
        max_queue=engine.max_queue,
        max_wait_s=engine.max_wait_s,
        start_timeout_s=engine.start_timeout_s or START_S[engine.kind],
        sleep_after_s=engine.sleep_when_idle,
        python=engine.python or str(installed_python(home(os.environ) / "engines") or sys.executable),
        args=tuple(_flags(engine)) if vllm else (),
        gpus=engine.gpus,
        serves=engine.serves,
        address=engine.address,
        replicas=engine.replicas,
        max_replicas=engine.max_replicas or engine.replicas,
        gpus_each=engine.tensor_parallel * engine.pipeline_parallel * engine.data_parallel if vllm else 0,
        ttft_s=None if engine.ttft_ms is None else engine.ttft_ms / 1000,
        batch_prompt_tokens=engine.batch.prompt_tokens,
        usd_per_hour=engine.usd_per_hour,
        tools=engine.tool_parser is not None if vllm else True,
        reasoning=engine.reasoning_parser is not None,
        media_domains=engine.media_domains,
    )


def nusd_per_s(engine: EngineSettings) -> float | None:
    """Of its time that requests take. None: what its hour costs is not known."""
    return None if engine.usd_per_hour is None else engine.usd_per_hour * NUSD_PER_USD / 3600 / engine.utilisation


def _flags(engine: EngineSettings) -> Iterator[str]:
    """vLLM's, for what the configuration says of it. `vllm serve --help=all` of 0.26 lists them."""
    for flag, value, default in (
        ("--tokenizer", engine.tokenizer, None),
        ("--dtype", engine.dtype, "auto"),
        ("--quantization", vllm_name(engine.quantization, Path(engine.model).expanduser()), None),
        ("--kv-cache-dtype", engine.kv_cache_dtype, "auto"),
        ("--gpu-memory-utilization", engine.gpu_memory_utilization, None),
        ("--tensor-parallel-size", engine.tensor_parallel, 1),
        ("--pipeline-parallel-size", engine.pipeline_parallel, 1),
        ("--data-parallel-size", engine.data_parallel, 1),
        ("--reasoning-parser", engine.reasoning_parser, None),
        ("--chat-template", engine.chat_template, None),
    ):
        if value is not None and value != default:
            yield from (flag, str(value))
    yield "--enable-prefix-caching" if engine.prefix_caching else "--no-enable-prefix-caching"
    if engine.tool_parser is not None:
        yield from ("--enable-auto-tool-choice", "--tool-call-parser", engine.tool_parser)
    if engine.speculative is not None:
        yield from ("--speculative-config", json.dumps(engine.speculative))
    if engine.adapters:
        yield from ("--enable-lora", "--lora-modules", *(f"{name}={path}" for name, path in engine.adapters.items()))
    yield from engine.args
