"""What an engine tells of itself on its metrics page (Prometheus text): vLLM, SGLang and llama.cpp, ours or behind somebody's base URL. Pure."""

import re
from collections.abc import Mapping

import msgspec

OVER_S = 2.0  # rates are of about so long
LEAST_PER_S = 0.01  # a rate that has faded below it is 0
_SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(\{.*\})?\s+(\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

Page = Mapping[str, tuple[float, int]]  # a sample's name -> the sum over its labels, and how many there were


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One look. `at`: monotonic seconds. None: it does not tell. Rates and shares of hits are of the last seconds.

    `running`, `waiting`: requests in it. `kv_used`: of its KV cache, 0 to 1; `kv_tokens`: how many that holds. `prefix_hits`: of the prompts' tokens,
    0 to 1. `prefill_tokens`: of prompts in it, not read yet. `replicas`: that run behind it. `prompt_token_s`, `output_token_s`: seconds that
    requests spent for each token of their prompts that was read, and that they made, since the engine began.
    """

    at: float
    running: int | None = None
    waiting: int | None = None
    kv_used: float | None = None
    kv_tokens: int | None = None
    prefix_hits: float | None = None
    tokens_per_s: float | None = None
    prompt_tokens_per_s: float | None = None
    prefill_tokens: int | None = None
    replicas: int | None = None
    prompt_token_s: float | None = None
    output_token_s: float | None = None


class Slot(msgspec.Struct):
    """One of llama.cpp's /slots, whose metrics do not tell how full its KV cache is."""

    n_ctx: int = 0
    is_processing: bool = False
    n_prompt_tokens: int = 0
    n_prompt_tokens_processed: int = 0
    n_prompt_tokens_cache: int = 0
    next_token: tuple["_Next", ...] = ()


class _Next(msgspec.Struct):
    n_decoded: int = 0


_slots = msgspec.json.Decoder(tuple[Slot, ...])

# The names of 2024 to 2026; the first that is there counts. Gauges of several engines (data parallel, replicas) add up; shares are their mean.
RUNNING = ("vllm:num_requests_running", "llamacpp:requests_processing", "sglang:num_running_reqs", "turnout:requests_running")
WAITING = ("vllm:num_requests_waiting", "llamacpp:requests_deferred", "sglang:num_queue_reqs", "turnout:requests_waiting")
REPLICAS = ("turnout:replicas_running",)  # providers/local/ray_serve.py
KV_USED = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "llamacpp:kv_cache_usage_ratio", "sglang:token_usage")
OUTPUT = ("vllm:generation_tokens_total", "llamacpp:tokens_predicted_total", "sglang:generation_tokens_total")
PROMPT = ("vllm:prompt_tokens_total", "llamacpp:prompt_tokens_total", "sglang:prompt_tokens_total")
HITS = ("vllm:prefix_cache_hits_total", "llamacpp:prompt_tokens_cached_total", "sglang:cached_tokens_total")
ASKED = ("vllm:prefix_cache_queries_total",)
PREFILL_S = ("vllm:request_prefill_time_seconds_sum", "llamacpp:prompt_seconds_total")
DECODE_S = ("vllm:request_decode_time_seconds_sum", "llamacpp:tokens_predicted_seconds_total")
CACHE = "vllm:cache_config_info"


def page_of(text: str) -> Page:
    """Samples that are no numbers are left out."""
    found: dict[str, tuple[float, int]] = {}
    for name, labels, value in _SAMPLE.findall(text):
        if name == CACHE:
            about = dict(_LABEL.findall(labels))
            value = str(_int(about.get("block_size")) * _int(about.get("num_gpu_blocks")))
        try:
            number = float(value)
        except ValueError:
            continue
        if number == number:
            total, count = found.get(name, (0.0, 0))
            found[name] = total + number, count + 1
    return found


class Reader:
    """Makes readings of one engine's pages, and keeps what rates are made of. A restart begins anew: counters never fall."""

    def __init__(self) -> None:
        self._counts: tuple[float, dict[str, float]] | None = None
        self._rates: dict[str, float] = {}

    def read(self, now: float, page: Page, slots: bytes | None = None) -> Reading:
        """`slots`: llama.cpp's. Raises msgspec.MsgspecError for slots that are none."""
        told = None if slots is None else _slots.decode(slots)
        counters = {"output": OUTPUT, "prompt": PROMPT, "hits": HITS, "asked": ASKED}
        self._count(now, {key: value for key, names in counters.items() if (value := _sum(page, names)) is not None})
        hits, prompt = self._rates.get("hits"), self._rates.get("prompt")
        asked = self._rates.get("asked")
        if asked is None and hits is not None and prompt is not None:
            asked = prompt + hits if "llamacpp:prompt_tokens_total" in page else prompt  # llama.cpp counts what it found apart
        return Reading(
            at=now,
            running=_whole(_sum(page, RUNNING)),
            replicas=_whole(_sum(page, REPLICAS)),
            waiting=_whole(_sum(page, WAITING)),
            kv_used=_mean(page, KV_USED) if told is None else _kv_used(told),
            kv_tokens=_whole(_sum(page, (CACHE,))) or None if told is None else sum(slot.n_ctx for slot in told),
            prefix_hits=min(1.0, hits / asked) if hits is not None and asked else None,
            tokens_per_s=self._rates.get("output"),
            prompt_tokens_per_s=prompt,
            prefill_tokens=None if told is None else sum(map(_unread, told)),
            prompt_token_s=_per(_sum(page, PREFILL_S), _read_tokens(page)),
            output_token_s=_per(_sum(page, DECODE_S), _sum(page, OUTPUT)),
        )

    def _count(self, now: float, counts: dict[str, float]) -> None:
        before, self._counts = self._counts, (now, counts)
        if before is None or now <= before[0]:
            return
        passed_s, weight = now - before[0], min(1.0, (now - before[0]) / OVER_S)
        for key, value in counts.items():
            grown = value - before[1].get(key, value)
            if grown < 0:
                self._rates.pop(key, None)
            else:
                known = self._rates.get(key)
                rate = grown / passed_s if known is None else known + weight * (grown / passed_s - known)
                self._rates[key] = rate if rate >= LEAST_PER_S else 0.0


def _read_tokens(page: Page) -> float | None:
    """Of prompts: without what was found in the cache, which vLLM counts among them."""
    tokens = _sum(page, PROMPT)
    return tokens if tokens is None or "vllm:prompt_tokens_total" not in page else tokens - (_sum(page, HITS) or 0.0)


def _per(seconds: float | None, tokens: float | None) -> float | None:
    return seconds / tokens if seconds and tokens and tokens > 0 else None


def _sum(page: Page, names: tuple[str, ...]) -> float | None:
    return next((page[name][0] for name in names if name in page), None)


def _mean(page: Page, names: tuple[str, ...]) -> float | None:
    return next((page[name][0] / page[name][1] for name in names if name in page), None)


def _kv_used(slots: tuple[Slot, ...]) -> float | None:
    """What requests hold now; what is kept of those that ended may be overwritten."""
    whole = sum(slot.n_ctx for slot in slots)
    held = sum(_in_cache(slot) for slot in slots if slot.is_processing)
    return min(1.0, held / whole) if whole else None


def _in_cache(slot: Slot) -> int:
    return slot.n_prompt_tokens_cache + slot.n_prompt_tokens_processed + sum(each.n_decoded for each in slot.next_token)


def _unread(slot: Slot) -> int:
    read = slot.n_prompt_tokens_cache + slot.n_prompt_tokens_processed
    return max(0, slot.n_prompt_tokens - read) if slot.is_processing and not any(each.n_decoded for each in slot.next_token) else 0


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _int(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0
