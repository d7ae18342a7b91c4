"""What is wrong with a batch's executor beside the types of its settings."""

from collections.abc import Iterator
from pathlib import Path

from config.document import expanded
from config.problem import Problem, problem
from config.settings import Settings


def batch_problems(settings: Settings) -> Iterator[Problem]:
    batch, ray = settings.batch, settings.batch.ray
    if batch.executor == "gateway":
        if ray is not None:
            yield problem("is used with `executor: ray` alone", "batch", "ray", key=True, advice=True)
        return
    if ray is None:
        yield problem("`batch.ray` is missing: `executor: ray` needs its `python` and `config`", "batch", "executor")
        return
    if not settings.state.database.startswith("postgres"):
        yield problem("actors of `batch.executor: ray` need a database that they can all reach: name a PostgreSQL", "batch", "executor")
    if batch.folder is None or not Path(batch.folder).is_absolute():
        yield problem("`batch.folder` must be named, as a whole path that every node of the cluster has", "batch", "executor")
    if not expanded(ray.python).is_file():
        yield problem("there is no such interpreter", "batch", "ray", "python")
    if not expanded(ray.config).is_file():
        yield problem("there is no such file", "batch", "ray", "config")
