"""One gateway, freshly started on core 0, through every phase; the mock and the load generator are on core 1."""

import time
from collections.abc import Collection
from subprocess import Popen

from rig.bodies import CHAT, MESSAGES, RESPONSES, body
from rig.gateways import Gateway
from rig.load import Failed, ask, load, mock_does, start_mock, wait_for_answer
from rig.processes import HERE, cpu_s, rss_mb, spawn, stop, taken

STALL_MS = 200  # between two events that are sent 20 ms apart
MOST_STREAMS, LEAST_STREAMS = 2048, 8

Figures = dict[str, float]


class Measurement:
    """`figures`: by name. `failures`: what could not be measured, by phase, and why."""

    def __init__(self, gateway: Gateway, process: "Popen[bytes] | None", scale: float) -> None:
        self.gateway = gateway
        self.figures: Figures = {}
        self.failures: dict[str, str] = {}
        self._process = process
        self._scale = scale

    def phase(self, name: str, path: str = CHAT, mock: str = "", settle_s: float = 0.3, least_s: float = 0.8, **options: float) -> Figures:
        """A load with the body of this name; with `cpu_us`, what the gateway's processes computed meanwhile. Raises Failed."""
        mock_does(mock)
        self._rest(settle_s)
        options["s"] = round(max(least_s, options["s"] * self._scale), 2)
        before, began = self._cpu_s(), time.monotonic()
        result = load(self.gateway, body(name), path, **options)
        result["cpu_us"] = (self._cpu_s() - before) * 1e6
        result["wall_s"] = time.monotonic() - began
        return result

    def every(self, names: Collection[str]) -> None:
        """The phases of these names, or all of them."""
        self.phase("chat", c=16, s=0.8)
        self.phase("chat_stream", c=8, s=0.4, least_s=0.4)
        parts = (self.light, self.full, self.bodies, self.streams, self.burst, self.paced, self.most_streams, self.dialects)
        for part in parts:
            if names and part.__name__ not in names:
                continue
            try:
                part()
            except Failed as exc:
                self.failures[part.__name__] = str(exc)
        if self._process:
            self.figures["rss_mb"] = rss_mb(self._process.pid)

    def light(self) -> None:
        got = self.phase("chat", c=64, s=4, r=self.gateway.light_rate)
        self.figures |= {"p50_ms": got["p50_ms"], "p99_ms": got["p99_ms"]}

    def full(self) -> None:
        got = self.phase("chat", c=32, s=4)
        self._rate("", got)

    def bodies(self) -> None:
        for name in ("1k", "10k", "100k"):
            self._rate(f"{name}_", self.phase(f"chat_{name}", c=8, s=1.5))

    def streams(self) -> None:
        got = self.phase("chat_stream", mock="-d10-s1", c=64, s=4, r=self.gateway.stream_rate)
        self.figures |= {"ttft_ms": got["word_p50_ms"], "delay_ms": got["delay_p50_ms"]}
        if self._process:
            self.figures["event_us"] = got["cpu_us"] / max(1, got["events"])
        if not 8 <= got["gap_p50_ms"] <= 40:
            raise Failed(f"events 10 ms apart came {got['gap_p50_ms']:.0f} ms apart")

    def burst(self) -> None:
        self.figures["burst_eps"] = self.phase("chat_stream", c=16, s=2)["events_per_s"]

    def paced(self) -> None:
        got = self.phase("chat_stream", mock="-d5", c=200, s=3, w=1)
        self.figures["paced_eps"] = got["events_per_s"]

    def most_streams(self) -> None:
        """The largest number of streams, of the powers of two, of which 99 in 100 have no gap above STALL_MS."""
        streams, held = self.gateway.from_streams, 0
        while LEAST_STREAMS <= streams <= MOST_STREAMS:
            got = self.phase("chat_stream", mock="-d20", least_s=2, c=streams, s=3, w=0.5, g=STALL_MS)
            calm = got["stalled"] <= 0.01 * (got["stalled"] + got["smooth"]) and got["open"] + got["smooth"] >= streams
            if calm:
                held = streams
            if (held and not calm) or (calm and streams < self.gateway.from_streams):
                break
            streams = streams * 2 if calm else streams // 2
        self.figures["streams_held"] = held

    def dialects(self) -> None:
        if not self.gateway.translates:
            return
        for path, name in ((MESSAGES, "messages"), (RESPONSES, "responses")):
            self._rate(f"{name}_", self.phase(name, path, c=32, s=2))
            self.figures[f"{name}_paced_eps"] = self.phase(f"{name}_stream", path, mock="-d5", c=200, s=2, w=1)["events_per_s"]
            self.figures[f"{name}_burst_eps"] = self.phase(f"{name}_stream", path, c=16, s=1.5)["events_per_s"]

    def _rate(self, prefix: str, got: Figures) -> None:
        self.figures[f"{prefix}rps"] = got["rps"]
        if self._process:
            self.figures[f"{prefix}cpu_us"] = got["cpu_us"] / got["requests"]

    def _cpu_s(self) -> float:
        return cpu_s(self._process.pid) if self._process else 0.0

    def _rest(self, settle_s: float) -> None:
        """Until the gateway is done with what the last phase left behind, at most 8 s."""
        for _ in range(int(8 / settle_s)):
            before = self._cpu_s()
            time.sleep(settle_s)
            if self._cpu_s() - before < 0.1 * settle_s:
                return


def measure(gateway: Gateway, scale: float, phases: Collection[str] = ()) -> Measurement:
    if gateway.command and taken(gateway.port):
        raise Failed(f"something listens on port {gateway.port} already: it would be measured instead of {gateway.name}")
    mock = start_mock()
    process = spawn(gateway.command, 0, gateway.env, HERE / f"logs/{gateway.name}.log") if gateway.command else None
    try:
        found = Measurement(gateway, process, scale)
        found.figures["start_s"] = wait_for_answer(gateway, process)
        stream = ask(gateway, body("chat_stream").read_bytes())
        if stream.count(b"data:") < 50 or b"[DONE]" not in stream:
            raise Failed("it did not stream the whole answer")
        found.every(phases)
        return found
    finally:
        if process:
            stop(process)
        stop(mock)
