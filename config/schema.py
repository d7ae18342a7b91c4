"""The configuration's JSON schema, for editors and for `turnout config schema`."""

import json
from typing import Any

from config.settings import Settings


def json_schema() -> dict[str, Any]:
    """Draft 2020-12. Values may also be written as `${VARIABLE}`, which a schema cannot say of numbers; the loader decides."""
    schema = Settings.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Turnout configuration"}


def schema_text() -> str:
    """The schema as config/turnout.schema.json holds it."""
    return json.dumps(json_schema(), indent=2) + "\n"
