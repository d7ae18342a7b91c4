"""What Ray Serve is told of an engine: the command that deploys it and keeps a socket before its replicas."""

import json
from pathlib import Path

from providers.local.llamacpp_child import SPINS
from providers.local.spec import EngineSpec, usable_cpus
from providers.local.vllm_command import serve_command

SERVE = str(Path(__file__).with_name("ray_serve.py"))


def ray_command(spec: EngineSpec, socket_path: str) -> tuple[str, ...]:
    orders = {
        "name": spec.name,
        "engine": spec.speaks,
        "address": spec.address,
        "model": spec.model_path,
        "slots": spec.slots,
        "context": spec.ctx_per_slot,
        "threads": spec.threads or usable_cpus(),
        "step_tokens": spec.whole_step,
        "spins": SPINS,
        "least": spec.replicas,
        "most": spec.max_replicas,
        "cpus": spec.threads or 1,
        "gpus": spec.gpus_each,
        "command": serve_command(spec, "SOCKET"),
    }
    return (spec.python, SERVE, "--uds", socket_path, "--orders", json.dumps(orders))
