"""The engines section: what an owned engine is started with. One form for both kinds; what only one of them has is refused for the other."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from config.section import Section
from config.values import Later, Like, ModelName, Seconds, Share

EngineKind = Literal["llamacpp", "vllm"]
# Weights that vLLM quantizes itself while it loads them, or reads as quantized; what a checkpoint says of itself needs no setting.
# vllm/model_executor/layers/quantization/__init__.py of 0.26 to 0.33.
QUANTIZATIONS: dict[EngineKind, tuple[str, ...]] = {
    "llamacpp": (),
    "vllm": (
        *("auto", "fp8", "int8", "awq", "awq_marlin", "gptq", "gptq_marlin"),
        *("compressed-tensors", "modelopt", "nvfp4", "mxfp4", "mxfp8", "torchao"),
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
    "gpus",
    "args",
)
OF_LLAMACPP = ("threads",)
OWN_FLAGS = ("--uds", "--host", "--port", "--api-key", "--model", "--served-model-name", "--max-model-len", "--max-num-seqs", "--scheduling-policy")


class EngineSettings(Section):
    kind: EngineKind
    model: str = Field(description="llamacpp: `builtin:NAME` or the path of a GGUF file; vllm: the folder of a checkpoint")
    slots: int = Field(8, ge=1, le=4096, description="requests computed at once; vllm: its `--max-num-seqs`")
    context: int = Field(2048, ge=64, description="tokens of prompt and answer together, for each slot; vllm: its `--max-model-len`")
    max_prompt_tokens: int | None = Field(None, ge=1, description="default: three quarters of `context`")
    max_queue: int = Field(64, ge=0, description="requests that may wait for a slot")
    max_wait_s: Seconds = 30.0
    quantization: str | None = Field(None, description="of the weights, where the checkpoint does not say it; vllm alone: of a GGUF file it is fixed")
    kv_cache_dtype: Literal["auto", "fp8", "fp8_e4m3", "fp8_e5m2"] | None = Field(None, description="vllm: of the KV cache")
    start_timeout_s: Seconds | None = Field(None, description="until it is ready; default 120 s, vllm 1800 s")
    threads: int = Field(0, ge=0, description="llamacpp: 0 is every CPU")
    python: str | None = Field(None, description="vllm: its environment's interpreter; default: what `turnout engines install vllm` made")
    tokenizer: str | None = Field(None, description="vllm: default: the checkpoint's own")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    gpus: tuple[Annotated[int, Field(ge=0, le=255)], ...] | None = Field(None, min_length=1, description="vllm: which it sees; default: all")
    gpu_memory_utilization: Annotated[Share, Field(gt=0)] | None = Field(None, description="vllm: of each GPU's memory; its own default 0.9")
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
    args: tuple[str, ...] = Field((), description="vllm: more of its flags, as they stand on its command line")
    gpu_usd_per_hour: Later = Field(None, description="not supported yet")

    @field_validator("args")
    @classmethod
    def _not_ours(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for arg in value:
            if arg.partition("=")[0].replace("_", "-") in OWN_FLAGS:
                raise PydanticCustomError("engine", "must not hold {flag}: the gateway sets it by a key of its own", {"flag": arg.partition("=")[0]})
        return value

    @model_validator(mode="after")
    def _of_its_kind(self) -> "EngineSettings":
        for name in OF_VLLM if self.kind == "llamacpp" else OF_LLAMACPP:
            if name in self.model_fields_set:
                raise PydanticCustomError("engine", "{name} is nothing that the kind {kind} has", {"name": name, "kind": self.kind})
        if self.kind == "llamacpp" and (self.quantization or self.kv_cache_dtype):
            raise PydanticCustomError("engine", "a GGUF file has its quantization in it: name another file, and set neither")
        if self.kind == "vllm" and self.quantization is not None and self.quantization not in QUANTIZATIONS["vllm"]:
            words = {"given": self.quantization, "known": ", ".join(QUANTIZATIONS["vllm"])}
            raise PydanticCustomError("engine", "quantization {given} is none that vLLM has; it has {known}", words)
        if self.gpus is not None and len(self.gpus) < self.tensor_parallel * self.pipeline_parallel * self.data_parallel:
            raise PydanticCustomError("engine", "gpus are fewer than tensor_parallel * pipeline_parallel * data_parallel need")
        return self

    @model_validator(mode="after")
    def _prompt_fits(self) -> "EngineSettings":
        if self.prompt_tokens >= self.context:
            raise PydanticCustomError("prompt", "max_prompt_tokens must be below context, which the answer shares")
        return self

    @property
    def prompt_tokens(self) -> int:
        return self.max_prompt_tokens or self.context * 3 // 4
