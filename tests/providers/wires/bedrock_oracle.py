"""Amazon's own model of its API, as the judge of what we send: members, types, bounds, patterns, closed sets and unions."""

import re
from base64 import b64decode
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ServiceModel, Shape
from botocore.validate import ParamValidator


@cache
def service() -> ServiceModel:
    return botocore.session.Session().get_service_model("bedrock-runtime")


def faults(operation: str, body: Any) -> list[str]:
    """What Amazon would refuse of a request's body."""
    shape = service().operation_model(operation).input_shape
    told = {**body, "modelId": "m"}
    report = ParamValidator().validate(told, shape)
    return [*([report.generate_report()] if report.has_errors() else []), *_faults(told, shape, "")]


def _faults(value: Any, shape: Shape, at: str) -> list[str]:
    if shape.type_name == "structure" and shape.metadata.get("document"):
        return []
    match shape.type_name:
        case "structure":
            return _structure(value, shape, at)
        case "list":
            return [fault for index, item in enumerate(value) for fault in _faults(item, shape.member, f"{at}[{index}]")]
        case "map":
            keys = [fault for name in value for fault in _faults(name, shape.key, f"{at}.{name}")]
            return keys + [fault for name, item in value.items() for fault in _faults(item, shape.value, f"{at}.{name}")]
        case "string":
            return _string(value, shape, at)
        case "blob":
            size = len(b64decode(value, validate=True))
            return [] if size >= shape.metadata.get("min", 0) else [f"{at} is empty"]
        case "integer" | "float" | "double" | "long":
            low, high = shape.metadata.get("min", value), shape.metadata.get("max", value)
            return [] if low <= value <= high else [f"{at} is out of range"]
    return []


def _structure(value: Any, shape: Any, at: str) -> list[str]:
    found = [f"{at}.{name} is not known" for name in value if name not in shape.members]
    if shape.metadata.get("union") or getattr(shape, "is_tagged_union", False):
        found += [] if len(value) == 1 else [f"{at} holds {sorted(value)}, not one"]
    for name, item in value.items():
        if name in shape.members:
            found += _faults(item, shape.members[name], f"{at}.{name}")
    return found


def _string(value: Any, shape: Any, at: str) -> list[str]:
    if not isinstance(value, str):
        return [f"{at} is no text"]
    if shape.enum and value not in shape.enum:
        return [f"{at} is {value!r}, not one of {shape.enum}"]
    pattern = shape.metadata.get("pattern")
    return [f"{at} is {value!r}, not {pattern}"] if pattern and shape.name != "ConversationalModelId" and not re.fullmatch(pattern, value) else []
