"""What an owned engine is and how it is looked after, as frozen values: the engine's spec, and the pace of its supervision."""

import math
import os
from pathlib import Path
from typing import Literal

import msgspec

from providers.http.port import Clocks
from providers.local.prefills import BATCH_AT_ONCE
from providers.local.vllm_serve import STEP_SHARE, WHOLE, value_of

# The head of llama.cpp's answer comes with its first token, so the first-token clock guards both. The idle clock is long beside any
# gap that other requests' prefill makes (about 1 s here), since running out of it is taken as an engine that hangs.
ENGINE_CLOCKS = Clocks(connect_s=3.0, headers_s=None, first_token_s=120.0, idle_s=60.0, total_s=600.0)
CPU_QUOTAS = (
    (Path("/sys/fs/cgroup/cpu.max"), None),
    (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")),
)


EngineKind = Literal["llamacpp", "vllm", "ray-serve"]
Speaks = Literal["llamacpp", "vllm"]


# Measured on a CPU: steps of 8 to 32 read prompts a sixth slower than 64, and 256 are 2 % faster than those; 8 of a 135M model take two processors
# of 2026 some 37 ms, and who leaves is noticed after two of them at most.
STEP_TOKENS = 8
MAX_LOGPROBS, MOST_LOGPROBS = "--max-logprobs", 20
PROMPT_ROOM = 4  # tokens of each step that decoding slots leave to prompts


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One engine of ours. Tokens are the model's own; memory is about `slots * ctx_per_slot * 23 KB` over the weights for SmolLM2-135M.

    `ctx_per_slot`: prompt and answer together; at most what the model was trained for (8192 for SmolLM2). `max_prompt_tokens` leaves room
    for an answer and bounds the prefill, which llama.cpp does not interrupt. `threads` 0: every CPU this process may use.
    `step_tokens`: computed at once by llama.cpp, which notices who left between two steps; for so long the decoding of others stalls, too.
    `max_queue`, `max_wait_s`: how many requests may wait for a slot, and how long, the engine's start included. `ttft_s`: no prompt is let in
    that would not be read within it, with those that are being read; None: slots alone decide. `batch_prompt_tokens`: of batch work, read at once.
    `gpus`: those that it sees, or None for all.
    `usd_per_hour`: what its hour costs, busy or not; None: not known. `sleep_after_s` without a request it sleeps until it is wanted; None: never.

    Of vLLM: `python`, the interpreter that has it; `args`, its flags beside those that every engine gets; `tools`, `reasoning`: whether it reads
    the model's tool calls and thoughts; `media_domains`, from where it may fetch images, audio and video.

    Of Ray Serve: `serves`, the engine of each replica; `address` of the cluster, None: one is started here; from `replicas` to `max_replicas`
    of them, with `slots` and `gpus_each` each; `python`, the interpreter that has Ray and the engine.
    """

    name: str
    model_path: str
    slots: int = 8
    ctx_per_slot: int = 2048
    max_prompt_tokens: int = 1536
    threads: int = 0
    step_tokens: int = STEP_TOKENS
    max_queue: int = 64
    max_wait_s: float = 30.0
    ttft_s: float | None = None
    batch_prompt_tokens: int = BATCH_AT_ONCE
    usd_per_hour: float | None = None
    clocks: Clocks = ENGINE_CLOCKS
    max_answer_bytes: int = 64 << 20
    kind: EngineKind = "llamacpp"
    python: str = ""
    args: tuple[str, ...] = ()
    gpus: tuple[int, ...] | None = None
    tools: bool = True
    reasoning: bool = False
    media_domains: tuple[str, ...] = ()
    start_timeout_s: float = 120.0
    sleep_after_s: float | None = None
    serves: Speaks = "llamacpp"
    address: str | None = None
    replicas: int = 1
    max_replicas: int = 1
    gpus_each: int = 0

    @property
    def speaks(self) -> Speaks:
        """The engine that answers, whoever runs it."""
        return self.serves if self.kind == "ray-serve" else self.kind

    @property
    def most_logprobs(self) -> int:
        """Alternatives told for each token. OpenAI's most, unless vLLM is given another."""
        told = [each.partition("=") for each in self.args]
        at = next((at for at, (flag, _, _) in enumerate(told) if flag.replace("_", "-") == MAX_LOGPROBS), None)
        if at is None:
            return MOST_LOGPROBS
        number = told[at][2] or (self.args[at + 1] if at + 1 < len(self.args) else "")
        return int(number) if number.isdigit() else MOST_LOGPROBS

    @property
    def whole_step(self) -> int:
        """Tokens of llama.cpp's step: one for each slot that decodes, and room for prompts."""
        return max(self.step_tokens, self.slots + PROMPT_ROOM)

    @property
    def shared_step(self) -> int | None:
        """Tokens of one step that decoding takes from prompts; None: so large a step, or so many engines, that it hardly does."""
        return self.whole_step if self.kind == "llamacpp" else None

    @property
    def seated(self) -> bool:
        """Whether we choose each request's slot: a first token is promised, and the number of the slot says which prompt is read first."""
        return self.kind == "llamacpp" and self.ttft_s is not None

    @property
    def slow_share(self) -> float:
        """Of a step, that one prompt takes at most as long as others are there; 1: all of it."""
        shared = self.kind == "vllm" and self.ttft_s is not None and all(value_of(self.args, flag) is None for flag in WHOLE)
        return 1 / STEP_SHARE if shared else 1.0

    def __post_init__(self) -> None:
        if not Path(self.model_path).is_absolute():
            raise ValueError(f"engine {self.name!r}: model_path must be absolute, not {self.model_path!r}")
        if self.slots < 1 or self.max_queue < 0 or self.threads < 0:
            raise ValueError(f"engine {self.name!r}: slots must be at least 1, max_queue and threads at least 0")
        if not 0 < self.max_prompt_tokens < self.ctx_per_slot:
            raise ValueError(
                f"engine {self.name!r}: max_prompt_tokens ({self.max_prompt_tokens}) must be below the {self.ctx_per_slot} tokens of "
                "context of a slot, which the answer shares"
            )


MAX_DOUBLINGS = 30  # of a backoff, which is at its most long before


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine is looked after; all times in seconds. Restarts wait `first_backoff_s`, twice that, … up to `max_backoff_s`, for ever.

    After a crash of a child that was ready for `settled_s` the wait is `first_backoff_s` again. `max_starts` in a row of which none became ready:
    it counts as failed, and is tried each `max_backoff_s`. `health_failures` failed checks in a row, or one that is not answered for `still_s` in
    which the child had no processor time at all: killed and started again. One that is merely slow, on a busy machine, had some. vLLM's server
    answers for itself alone: its core and workers are looked at each `core_every_s`. One that ended is the engine's loss, one that was stopped for
    `still_s` a hang, and so is no processor time for all of them within `silent_s` while requests run.
    """

    first_backoff_s: float = 1.0
    max_backoff_s: float = 60.0
    settled_s: float = 30.0
    max_starts: int = 5
    health_every_s: float = 1.0
    health_timeout_s: float = 5.0
    health_failures: int = 3
    still_s: float = 3.0
    core_every_s: float = 0.1
    silent_s: float = 10.0
    stop_grace_s: float = 5.0

    def crashes_after(self, crashes: int, lived_s: float | None) -> int:
        """How many in succession it is now, after so many, the last child having been ready for `lived_s`; None: it never was."""
        return 1 if lived_s is not None and lived_s >= self.settled_s else crashes + 1

    def backoff_s(self, crashes: int) -> float:
        """How long to wait before the start that follows the `crashes`-th crash in succession."""
        return min(self.max_backoff_s, self.first_backoff_s * 2.0 ** min(crashes - 1, MAX_DOUBLINGS))


def usable_cpus() -> int:
    """How many CPUs this process may really use: its affinity, less what a container's CPU quota takes away. At least 1.

    More compute threads than that collapse llama.cpp's throughput: its threads wait for one another after every operation.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in map(_quota, CPU_QUOTAS) if quota)]))


def _quota(files: tuple[Path, Path | None]) -> float | None:
    """The CPU quota that cgroup v2 (one file) or v1 (two files) states, in CPUs; None: no quota, or no such file."""
    quota_file, period_file = files
    try:
        words = quota_file.read_text().split()
        if period_file is not None:
            words.append(period_file.read_text().strip())
        quota, period = (int(word) for word in words)
    except (OSError, ValueError):  # not this version of cgroups, or `max`
        return None
    return quota / period if quota > 0 and period > 0 else None
