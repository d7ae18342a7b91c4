"""The engines section: what an owned engine is started with. One form for both kinds; what only one of them has is refused for the other."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from config.section import Section
from config.values import Like, Milliseconds, ModelName, PositiveUsd, Seconds, Share, Usd

EngineKind = Literal["llamacpp", "vllm", "ray-serve"]
# Weights that vLLM quantizes itself while it loads them, or reads as quantized; what a checkpoint says of itself needs no setting.
# vllm/model_executor/layers/quantization/__init__.py and vllm/config/quantization.py of 0.32. On weights that are not quantized 0.26 takes `fp8`
# (as on the H100 of docs/gpu.md), 0.32 only the names with `_per_`.
QUANTIZATIONS: dict[EngineKind, tuple[str, ...]] = {
    "llamacpp": (
        *("auto", "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q2_K_S", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M"),
        *("Q5_K_S", "Q5_K_M", "Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_NL"),
        *("IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4"),
    ),
    "vllm": (
        *(
            "auto",
            "int8",
            "nvfp4",
            "fp8",
            "fp8_per_tensor",
            "fp8_per_channel",
            "fp8_per_block",
            "int8_per_channel_weight_only",
            "nvfp4_per_token",
            "mxfp8",
            "mxfp4",
        ),
        *("awq", "awq_marlin", "gptq", "gptq_marlin", "compressed-tensors", "modelopt", "modelopt_fp4", "torchao"),
    ),
}
OF_VLLM = (
    "python",
    "tokenizer",
    "dtype",
    "gpu_memory_utilization",
    "tensor_parallel",
    "pipeline_parallel",
    "data_parallel",
    "prefix_caching",
    "speculative",
    "adapters",
    "tool_parser",
    "reasoning_parser",
    "chat_template",
    "media_domains",
    "args",
)
OF_LLAMACPP = ("threads", "step_tokens")
OF_RAY = ("serves", "address", "max_replicas")
HOURS_A_YEAR = 8766.0
OWN_FLAGS = (
    *("--uds", "--host", "--port", "--api-key", "--model", "--served-model-name", "--max-model-len", "--max-num-seqs", "--scheduling-policy"),
    *("--allowed-media-domains", "--quantization", "-q"),
)


class PurchaseSettings(Section):
    """What a machine that was bought costs by the hour, for as long as it is used."""

    usd: PositiveUsd
    years: Annotated[float, Field(gt=0, le=50)] = 4.0
    power_w: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0
    usd_per_kwh: Usd = 0.0

    @property
    def usd_per_hour(self) -> float:
        return self.usd / (self.years * HOURS_A_YEAR) + self.power_w / 1000 * self.usd_per_kwh


class BatchShareSettings(Section):
    """What batch work may have of the engine beside live traffic."""

    prompt_tokens: int = Field(2048, ge=1, description="of its prompts, read at once, about")


class EngineSettings(Section):
    kind: EngineKind
    model: str = Field(description="llamacpp: `builtin:NAME` or the path of a GGUF file; vllm: the folder of a checkpoint")
    slots: int = Field(8, ge=1, le=4096, description="requests computed at once; vllm: its `--max-num-seqs`")
    context: int = Field(2048, ge=64, description="tokens of prompt and answer together, for each slot; vllm: its `--max-model-len`")
    max_prompt_tokens: int | None = Field(None, ge=1, description="default: three quarters of `context`")
    max_queue: int = Field(64, ge=0, description="requests that may wait for a slot")
    max_wait_s: Seconds = 30.0
    quantization: str | None = Field(
        None, description="of the weights, where the checkpoint does not say it; llamacpp: which of a folder's GGUF files, such as Q4_K_M"
    )
    kv_cache_dtype: Literal["auto", "fp8", "fp8_e4m3", "fp8_e5m2"] | None = Field(None, description="vllm: of the KV cache")
    start_timeout_s: Seconds | None = Field(None, description="until it is ready; default 120 s, vllm 1800 s")
    sleep_when_idle: Seconds | None = Field(
        None, description="seconds without a request after which it sleeps, until the next one; default: never; nothing of ray-serve"
    )
    threads: int = Field(0, ge=0, description="llamacpp: 0 is every CPU")
    step_tokens: int = Field(8, ge=1, le=8192, description="llamacpp: computed at once; more read prompts faster, fewer stop sooner for who left")
    python: str | None = Field(None, description="vllm: its environment's interpreter; default: what `turnout engines install vllm` made")
    tokenizer: str | None = Field(None, description="vllm: default: the checkpoint's own")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    gpus: tuple[Annotated[int, Field(ge=0, le=255)], ...] | None = Field(None, min_length=1, description="which it sees; default: all")
    gpu_memory_utilization: Annotated[Share, Field(gt=0)] | None = Field(
        None, description="vllm: of each GPU's memory; its own default 0.9, of 0.32 0.92"
    )
    tensor_parallel: int = Field(1, ge=1, le=256, description="vllm: GPUs that share each layer")
    pipeline_parallel: int = Field(1, ge=1, le=256, description="vllm: stages of layers")
    data_parallel: int = Field(1, ge=1, le=256, description="vllm: copies of the model under one engine")
    prefix_caching: bool = True
    speculative: dict[str, str | int | float | bool] | None = Field(None, description="vllm: its `--speculative-config`")
    adapters: dict[ModelName, str] = Field({}, description="vllm: LoRA adapters by the name under which a target asks for them")
    tool_parser: Annotated[str, Like(r"[a-z0-9_]{1,40}", "must be a name of vLLM's --tool-call-parser")] | None = Field(
        None, description="vllm: reads the model's tool calls; without it the model has no tools"
    )
    reasoning_parser: Annotated[str, Like(r"[A-Za-z0-9_]{1,40}", "must be a name of vLLM's --reasoning-parser")] | None = None
    chat_template: str | None = Field(None, description="vllm: a file; default: the tokenizer's own")
    media_domains: tuple[Annotated[str, Like(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", "must be a host's name in small letters")], ...] = Field(
        (), description="vllm: hosts from which it may fetch the images, audio and video of requests; default: none, only data: URLs are taken"
    )
    args: tuple[str, ...] = Field((), description="vllm: more of its flags, as they stand on its command line")
    ttft_ms: Milliseconds | None = Field(
        None, description="from arrival to first token: who would begin later goes to the next target or is refused; default: no limit"
    )
    batch: BatchShareSettings = BatchShareSettings()
    replicas: int = Field(1, ge=1, le=64, description="so many engines of this kind, NAME-1, NAME-2 …; they share `gpus` out among themselves")
    gpu_usd_per_hour: PositiveUsd | None = Field(None, description="what an hour of one replica's machine costs, busy or not; default: not known")
    purchase: PurchaseSettings | None = Field(None, description="where the machine was bought, instead of gpu_usd_per_hour")
    serves: Literal["llamacpp", "vllm"] = Field("llamacpp", description="ray-serve: the engine of each replica, whose own settings stand here too")
    address: str | None = Field(None, min_length=1, description="ray-serve: of the cluster, such as auto or HOST:6379; default: one is started here")
    max_replicas: int | None = Field(None, ge=1, le=1024, description="ray-serve: how far it may scale out; default: `replicas`, at which it starts")
    utilisation: Annotated[Share, Field(gt=0)] = Field(1.0, description="the share of its hours that it is to be busy, which then bears the rest")

    @field_validator("args")
    @classmethod
    def _not_ours(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for arg in value:
            if arg.partition("=")[0].replace("_", "-") in OWN_FLAGS:
                raise PydanticCustomError("engine", "must not hold {flag}: the gateway sets it by a key of its own", {"flag": arg.partition("=")[0]})
        return value

    @model_validator(mode="after")
    def _of_its_kind(self) -> "EngineSettings":
        if found := [*self._foreign(), *self._wrong()]:
            raise PydanticCustomError("engine", "{found}", {"found": "; ".join(found)})
        return self

    def _foreign(self) -> Iterator[str]:
        foreign = set(OF_RAY) if self.kind != "ray-serve" else {"gpus"}
        foreign |= {*OF_VLLM, "kv_cache_dtype"} if self.speaks == "llamacpp" else set(OF_LLAMACPP)
        if self.kind == "ray-serve":
            foreign.discard("python")
        names = [each for each in (*OF_VLLM, "kv_cache_dtype", *OF_LLAMACPP, *OF_RAY, "gpus") if each in foreign & self.model_fields_set]
        if names:
            yield f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} nothing that the kind {self.kind} has"

    def _wrong(self) -> Iterator[str]:
        known = QUANTIZATIONS[self.speaks]
        if self.quantization is not None and self.quantization.upper() not in {each.upper() for each in known}:
            engine = "a GGUF file" if self.speaks == "llamacpp" else "vLLM"
            yield f"quantization {self.quantization} is none that {engine} has; it has {', '.join(known)}"
        if self.kind == "ray-serve" and self.python is None:
            yield "python is missing: the interpreter of an environment that has ray[serve] and the engine"
        if self.kind == "ray-serve" and self.sleep_when_idle is not None:
            yield "sleep_when_idle is nothing that the kind ray-serve has: Ray itself scales by load"
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            yield "max_replicas are fewer than replicas, at which it starts"
        if self.gpu_usd_per_hour is not None and self.purchase is not None:
            yield "gpu_usd_per_hour and purchase both say what its hour costs; keep one"
        if self.gpus is not None and len(set(self.gpus)) < len(self.gpus):
            yield "gpus name a GPU twice"
        if self.gpus is not None and len(self.gpus) % self.replicas:
            yield "gpus cannot be shared out evenly among so many replicas"
        if self.gpus is not None and len(self.gpus) // self.replicas < self.tensor_parallel * self.pipeline_parallel * self.data_parallel:
            yield "gpus are fewer than tensor_parallel * pipeline_parallel * data_parallel need, for each replica"

    @model_validator(mode="after")
    def _prompt_fits(self) -> "EngineSettings":
        if self.prompt_tokens >= self.context:
            raise PydanticCustomError("prompt", "max_prompt_tokens must be below context, which the answer shares")
        return self

    @property
    def speaks(self) -> Literal["llamacpp", "vllm"]:
        """The engine that answers, whoever runs it."""
        return self.serves if self.kind == "ray-serve" else self.kind

    @property
    def usd_per_hour(self) -> float | None:
        """Of one replica. None: not known."""
        return self.purchase.usd_per_hour if self.purchase is not None else self.gpu_usd_per_hour

    def each(self, name: str) -> dict[str, "EngineSettings"]:
        """Its replicas by name, each with its own GPUs."""
        if self.replicas == 1 or self.kind == "ray-serve":
            return {name: self}
        share = len(self.gpus or ()) // self.replicas
        gpus = [None if self.gpus is None else self.gpus[at * share : (at + 1) * share] for at in range(self.replicas)]
        return {f"{name}-{at + 1}": self.model_copy(update={"replicas": 1, "gpus": gpus[at]}) for at in range(self.replicas)}

    @property
    def prompt_tokens(self) -> int:
        return self.max_prompt_tokens or self.context * 3 // 4
