"""Where Google has a model: below `models/`, unless its name says otherwise."""

from urllib.parse import quote


def model_path(model: str) -> str:
    """`/models/NAME`; a name with a slash in it (tunedModels/…) is a path already."""
    return f"/{quote(model, safe='/')}" if "/" in model else f"/models/{quote(model, safe='')}"
