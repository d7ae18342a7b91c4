"""What vLLM is told: its command line, its environment, and what a line of its log says of its start."""

import os
import re
from pathlib import Path

from providers.local.spec import EngineSpec
from providers.local.vllm_serve import SHARE_STEPS

SLEEP_MODE = "--enable-sleep-mode"
DEV_MODE = {"VLLM_SERVER_DEV_MODE": "1"}  # which gives its server /sleep; nobody but us reaches that
SERVE = str(Path(__file__).with_name("vllm_serve.py"))
# Of the environment vLLM gets what concerns it and its libraries; no provider's key and no hub's.
PREFIXES = ("VLLM_", "HF_HUB_", "CUDA_", "NCCL_", "NVSHMEM_", "TORCH_", "TORCHINDUCTOR_", "TRITON_", "OMP_", "LD_", "XDG_", "RAY_")
NO_DOMAIN = "none.invalid"  # no host has such a name (RFC 2606); an empty list would allow all
NO_REDIRECTS = {"VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0"}  # else a host that is allowed leads on to one that is not
NAMES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "HF_HOME")
_STAGES = (  # of 0.26 to 0.33, in the order in which they come
    (re.compile(r"Starting to load model"), "loading the weights"),
    (re.compile(r"Loading \w+ checkpoint shards:\s+(\d+)%"), "loading the weights, {} %"),
    (re.compile(r"Model loading took"), "compiling"),
    (re.compile(r"torch\.compile took|Compiling a graph|Dynamo bytecode transform"), "compiling"),
    (re.compile(r"GPU KV cache size|KV cache size"), "reserving the KV cache"),
    (re.compile(r"Capturing CUDA graphs?.*?:\s+(\d+)%"), "capturing CUDA graphs, {} %"),
    (re.compile(r"init engine .* took"), "starting its server"),
)


def serve_command(spec: EngineSpec, socket_path: str) -> tuple[str, ...]:
    """The server on a socket of ours. Its own queue is no place to wait in: at most `slots` requests are in it, in the order of their priority."""
    return (
        spec.python,
        SERVE,
        spec.model_path,
        *("--uds", socket_path),
        *("--served-model-name", spec.name),
        *("--max-model-len", str(spec.ctx_per_slot)),
        *("--max-num-seqs", str(spec.slots)),
        *("--scheduling-policy", "priority"),
        *("--allowed-media-domains", *(spec.media_domains or (NO_DOMAIN,))),
        "--disable-uvicorn-access-log",
        *(() if spec.sleep_after_s is None else (SLEEP_MODE,)),
        *((SHARE_STEPS,) if spec.slow_share < 1.0 else ()),
        *spec.args,
    )


def environment(spec: EngineSpec, key: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in NAMES or name.startswith(PREFIXES)}
    if spec.gpus is not None:
        kept["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, spec.gpus))
    if spec.sleep_after_s is not None:
        kept |= DEV_MODE
    # The key is not among the arguments, which everybody on the machine sees.
    return {**NO_REDIRECTS, "VLLM_NO_USAGE_STATS": "1", "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1", **kept, "VLLM_API_KEY": key}


def stage_of(line: str) -> str | None:
    """What its start has come to, by a line of its log; None: the line says nothing of it."""
    for pattern, words in _STAGES:
        if found := pattern.search(line):
            return words.format(*found.groups())
    return None
