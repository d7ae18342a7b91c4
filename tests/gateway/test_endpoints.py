"""docs/endpoints.md lists every endpoint, and for each the providers that have it."""

import re

from gateway.endpoints import ENDPOINTS
from providers.registry import PROVIDER_KINDS
from tests.config.files import ROOT
from tests.gateway.conftest import Gateway

TEXT = (ROOT / "docs" / "endpoints.md").read_text()
ROWS = {f"{method} {path}": cells for method, path, cells in re.findall(r"^\| `([A-Z]+) (/\S*)` \|(.*)\|$", TEXT, re.M)}


async def test_every_endpoint_of_the_gateway_is_listed_and_no_other(gateway: Gateway) -> None:
    paths = (await gateway.http.get("/openapi.json")).json()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert set(ROWS) - {"GET /"} == served


def test_each_conversation_endpoint_names_the_providers_that_speak_it() -> None:
    for path, endpoint in ENDPOINTS.items():
        dialect = endpoint.form.dialect
        if dialect != "passthrough":
            kinds = [name for name, row in PROVIDER_KINDS.items() if dialect in row.native]
            assert re.findall(r"`([^`]+)`", ROWS[f"POST {path}"].split(" | ")[-1]) == kinds, path


def test_each_endpoint_that_passes_through_names_the_providers_that_have_it_and_the_form_of_its_body() -> None:
    for path, endpoint in ENDPOINTS.items():
        form = endpoint.form
        if form.dialect == "passthrough":
            body, at = ROWS[f"POST {path}"].split(" | ")
            assert re.findall(r"`([^`]+)`", at) == [name for name, row in PROVIDER_KINDS.items() if form.path in row.passes], path
            assert body.strip().startswith("form" if form.multipart else "JSON")
            assert form.default_model is None or f"`{form.default_model}`" in body
