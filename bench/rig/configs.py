"""Configurations of a given size: so many teams, models, targets, as bench/conf/limits.yaml otherwise."""

import json
from pathlib import Path

from rig.bodies import MODEL
from rig.gateways import KEY, UPSTREAM

LIMITS = {"limits": {"rpm": 10**9, "tpm": 10**12, "concurrency": 10**5}, "budget": {"usd": 10**6}}
PRICE = {"input_usd_per_mtok": 2.5, "output_usd_per_mtok": 10}


def config(folder: Path, *, teams: int = 1, models: int = 1, targets: int = 1, workers: int = 1, limited: bool = True) -> Path:
    """The file. `models`: with a target each; `targets`: of the model that is asked. Not `limited`: no limits and
    budgets, as several workers count theirs together only with a Redis."""
    providers = {
        "mock": {"kind": "openai-compatible", "base_url": f"{UPSTREAM}/v1", "api_key": "sk-up"},
        **{f"p{n}": {"kind": "openai-compatible", "base_url": f"{UPSTREAM}/p{n}/v1", "api_key": "sk-up"} for n in range(1, targets)},
    }
    names = [MODEL, *(f"model-{n}" for n in range(1, models))]
    served = {name: {"targets": [{"provider": "mock", "model": name, "price": PRICE}]} for name in names}
    served[MODEL]["targets"] += [{"provider": f"p{n}", "model": MODEL, "price": PRICE} for n in range(1, targets)]
    own = LIMITS if limited else {}
    asking = {"organisation": "acme", "keys": [KEY], **own}
    others = {f"team-{n}": {"organisation": "acme", "keys": [f"sk-team-{n:07}"], **own} for n in range(1, teams)}
    text = {
        "state": {"database": f"sqlite:///{folder}/ledger.db"},
        "server": {"workers": workers},
        "providers": providers,
        "models": served,
        "organisations": {"acme": own},
        "teams": {"bench": asking, **others},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(text))
    return path
