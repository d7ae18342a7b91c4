"""Run by vLLM's own Python: makes what tests/vllm needs of a GGUF file. `make_model.py GGUF FOLDER`.

`checkpoint`: its weights. `adapter`: a small LoRA adapter for them, of random numbers. `thinker`: the checkpoint with two tokens for its thoughts,
of which it says `</think>` where it would end a sentence. `seer`: a tiny Idefics3 of random numbers with its tokenizer; an image is 16 tokens and
three around them. (LLaVA, Qwen-VL, Gemma 3 and others need torchvision, whose builds do not load beside torch for CPUs.)
"""

import json
import os
import shutil
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
)

RANK = 4
SCALE = 0.05  # of the adapter's numbers: it must change what is said
# Tokens that get another name, for the model never says them.
THOUGHTS = {"<think>": "<jupyter_script>", "</think>": "<empty_output>"}
IMAGES = {
    "<image>": "<jupyter_output>",
    "<fake_token_around_image>": "<jupyter_code>",
    "<global-img>": "<jupyter_text>",
    "<end_of_utterance>": "<jupyter_start>",
}
LOUDER = 1.2  # than the full stop is the end of the thoughts, wherever that would come
IMAGE, PATCH, SCALE_DOWN = 112, 14, 2  # pixels; of an image's patches each way, how many make a token


def make_checkpoint(gguf: Path, folder: Path) -> None:
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True))
    model.save_pretrained(folder)


def make_adapter(checkpoint: Path, folder: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    hidden = config["hidden_size"]
    torch.manual_seed(7)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{name}.lora_A.weight"] = torch.randn(RANK, hidden) * SCALE
        weights[f"{name}.lora_B.weight"] = torch.randn(hidden, RANK) * SCALE
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors")
    said = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none", "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps({**said, "base_model_name_or_path": str(checkpoint)}))


def with_names(checkpoint: Path, folder: Path, names: dict[str, str], special: bool) -> None:
    """The checkpoint's tokenizer with other names for some tokens: new -> old."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(checkpoint / file, folder / file)
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    for name, old in names.items():
        tokenizer["model"]["vocab"][name] = tokenizer["model"]["vocab"].pop(old)
        (added,) = [each for each in tokenizer["added_tokens"] if each["content"] == old]
        added |= {"content": name, "special": special}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def make_thinker(checkpoint: Path, folder: Path) -> None:
    with_names(checkpoint, folder, THOUGHTS, special=False)
    shutil.copy(checkpoint / "config.json", folder / "config.json")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    weights = load_file(checkpoint / "model.safetensors")
    said = weights["model.embed_tokens.weight"]  # which is what its tokens are chosen by, too
    said[tokenizer.convert_tokens_to_ids("</think>")] = LOUDER * said[tokenizer.convert_tokens_to_ids(".")]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def make_seer(checkpoint: Path, folder: Path) -> None:
    with_names(checkpoint, folder, IMAGES, special=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    known = json.loads((checkpoint / "config.json").read_text())
    ends = {name: known[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = LlamaConfig(vocab_size=known["vocab_size"], num_key_value_heads=2, max_position_embeddings=2048, **size, **ends).to_dict()
    vision = {"image_size": IMAGE, "patch_size": PATCH, **size}
    image = tokenizer.convert_tokens_to_ids("<image>")
    torch.manual_seed(7)
    config = Idefics3Config(vision_config=vision, text_config=text, image_token_id=image, scale_factor=SCALE_DOWN, **ends)
    edge = {"longest_edge": IMAGE}
    pixels = Idefics3ImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False)
    tokens = (IMAGE // PATCH // SCALE_DOWN) ** 2
    Idefics3Processor(pixels, tokenizer, tokens, chat_template=tokenizer.chat_template).save_pretrained(folder)
    Idefics3ForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(folder)


if __name__ == "__main__":
    place = Path(sys.argv[2])
    make_checkpoint(Path(sys.argv[1]), place / "checkpoint")
    make_adapter(place / "checkpoint", place / "adapter")
    make_thinker(place / "checkpoint", place / "thinker")
    make_seer(place / "checkpoint", place / "seer")
