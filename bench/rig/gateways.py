"""The gateways that are compared, how each is started, and whether it is installed."""

import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rig.processes import HERE

BIN = Path(sys.executable).parent
MOCK_PORT = int(os.environ.get("BENCH_MOCK_PORT", "9001"))  # the files in conf/ say 9001; `bench/scaling.py` makes its own
KEY = "sk-bench-key"
UPSTREAM = f"http://127.0.0.1:{MOCK_PORT}"


@dataclass(frozen=True)
class Gateway:
    """`needs`: a file without which it is not installed. `light_rate`, `stream_rate`: requests and streams a second of the light load; LiteLLM
    cannot do more than a few dozen on a core. `translates`: asked in other dialects than its provider's too. `from_streams`: the number of
    concurrent streams to try first."""

    name: str
    title: str
    command: tuple[str, ...] | None
    port: int
    env: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    needs: Path | None = None
    light_rate: int = 50
    stream_rate: int = 10
    translates: bool = False
    from_streams: int = 256

    @property
    def available(self) -> bool:
        if self.needs is not None and not self.needs.exists():
            return False
        return self.command is None or shutil.which(self.command[0]) is not None


def turnout(name: str, title: str, port: int, front: str) -> Gateway:
    return Gateway(name, title, (str(BIN / "python"), "-I", str(HERE / "front.py"), front, str(port)), port, translates=True)


def router(name: str, venv: str, port: int, *command: str) -> Gateway:
    """One of the Rust routers; all take the same options."""
    bin_ = HERE / "venvs" / venv / "bin"
    options = ("--host", "127.0.0.1", "--port", str(port), "--worker-urls", UPSTREAM, "--policy", "round_robin", "--log-level", "error")
    return Gateway(
        name,
        f"{name} (Rust)",
        (str(bin_ / command[0]), *command[1:], *options, "--prometheus-port", str(port + 10_000)),
        port,
        needs=bin_ / command[0],
    )


LITELLM = HERE / "venvs/litellm/bin/litellm"
PORTKEY = HERE / "node/node_modules/@portkey-ai/gateway/build/start-server.js"
GATEWAYS = {
    g.name: g
    for g in (
        Gateway("direct", "direct, without a gateway", None, MOCK_PORT),
        Gateway("nginx", "nginx", ("nginx", "-p", str(HERE), "-c", str(HERE / "conf/nginx.conf")), 8100),
        Gateway(
            "litellm",
            "LiteLLM",
            (str(LITELLM), "--config", str(HERE / "conf/litellm.yaml"), "--host", "127.0.0.1", "--port", "8121", "--num_workers", "1"),
            8121,
            {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            light_rate=10,
            stream_rate=2,
            from_streams=16,
        ),
        Gateway(
            "portkey",
            "Portkey",
            ("node", "--import", str(HERE / "conf/portkey.mjs"), str(PORTKEY), "--headless", "--port=8130"),
            8130,
            {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"},
            {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{UPSTREAM}/v1"},
            needs=PORTKEY,
        ),
        router("vllm-router", "routers", 8111, "python", "-m", "vllm_router.launch_router"),
        router("sglang-router", "routers", 8112, "python", "-m", "sglang_router.launch_router"),
        router("smg", "smg", 8110, "smg", "launch"),
        turnout("turnout-limits", "**Turnout, everything on**", 8304, "limits"),
        turnout("turnout", "Turnout without limits and budgets", 8301, "uvicorn"),
        turnout("turnout-route", "Turnout as a route inside the app", 8302, "route"),
        turnout("turnout-granian", "Turnout under granian", 8303, "granian"),
    )
}
USUAL = [name for name in GATEWAYS if name not in ("turnout-route", "turnout-granian")]
QUICK = ["direct", "nginx", "litellm", "vllm-router", "turnout-limits", "turnout"]
