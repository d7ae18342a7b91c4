"""What `turnout check` finds of engines: files that are not there, and GPUs of which more is promised than there is."""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from config.document import expanded
from config.engines import EngineSettings
from config.problem import Problem, problem
from config.settings import Settings

LIMITS = ("max_position_embeddings", "n_positions", "max_sequence_length")  # a checkpoint's names for the most tokens of prompt and answer
VLLM_SHARE = 0.9  # of a GPU's memory, where nothing is said


def vllm_files(name: str, engine: EngineSettings) -> Iterator[Problem]:
    if not (expanded(engine.model) / "config.json").is_file():
        yield problem("is no folder with a config.json: name the folder of a checkpoint", "engines", name, "model")
    elif (longest := _longest(expanded(engine.model) / "config.json")) is not None and engine.context > longest and not _stretched(engine):
        yield problem(f"is more than the {longest:,} tokens that the model takes: vLLM would not start", "engines", name, "context")
    if engine.python is not None and not expanded(engine.python).is_file():
        yield problem("there is no such interpreter", "engines", name, "python")
    if engine.chat_template is not None and not expanded(engine.chat_template).is_file():
        yield problem("there is no such file", "engines", name, "chat_template")
    for adapter, path in engine.adapters.items():
        if not expanded(path).is_dir():
            yield problem("there is no such folder", "engines", name, "adapters", adapter)


def llamacpp_files(name: str, engine: EngineSettings, trained_tokens: Callable[[EngineSettings], int | None]) -> Iterator[Problem]:
    """`trained_tokens`: of prompt and answer, that its model was trained for; None: not known."""
    model, is_builtin = expanded(engine.model), engine.model.startswith("builtin:")
    if not (is_builtin or model.is_file() or (engine.quantization and model.is_dir())):
        yield problem("there is no such file; name a GGUF file, or builtin:NAME", "engines", name, "model")
    elif (trained := trained_tokens(engine)) is not None and engine.context > trained:
        why = f"is more than the {trained:,} tokens that the model was trained for: what it says beyond them makes no sense"
        yield problem(why, "engines", name, "context", advice=True)


def shared_gpus(settings: Settings) -> Iterator[Problem]:
    """A note for each GPU (where there are any) of which several engines of vLLM take more together than it has."""
    takers: dict[int, list[tuple[str, str, float]]] = defaultdict(list)
    for name, engine in settings.engines.items():
        if engine.kind != "vllm" or engine.sleep_when_idle is not None:  # those that sleep may well take turns
            continue
        for replica, each in engine.each(name).items():
            needs = each.tensor_parallel * each.pipeline_parallel * each.data_parallel
            for gpu in (each.gpus or tuple(range(needs)))[:needs]:
                takers[gpu].append((name, replica, each.gpu_memory_utilization or VLLM_SHARE))
    for gpu, those in sorted(takers.items()):
        shares = sum(share for *_, share in those)
        if shares > 1.0 + 1e-9:
            told = " + ".join(f"{share:g} for `{replica}`" for _, replica, share in those)
            advice = "give each its own `gpus`, or less `gpu_memory_utilization`"
            yield problem(f"GPU {gpu} has not enough memory for them all: {told} of it are {shares:g}; {advice}", "engines", those[-1][0], note=True)


def _longest(config: Path) -> int | None:
    """The most tokens that a checkpoint says its model takes; None: it does not say, or says how to take more."""
    try:
        said = json.loads(config.read_bytes())
    except (OSError, ValueError):
        return None
    fields = said.get("text_config", said) if isinstance(said, dict) else {}
    if not isinstance(fields, dict) or any("factor" in (fields.get(name) or {}) for name in ("rope_scaling", "rope_parameters")):
        return None
    found = [fields[name] for name in LIMITS if isinstance(fields.get(name), int)]
    return found[0] if found else None


def _stretched(engine: EngineSettings) -> bool:
    """Whether vLLM was told to take more than the checkpoint says."""
    told = any(arg.partition("=")[0].replace("_", "-").startswith(("--hf-overrides", "--rope-")) for arg in engine.args)
    return told or os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "0") not in ("", "0")
