"""One provider's settings as the providers package takes them: plain values, and what signs its requests."""

import json

import msgspec

from config.settings import ProviderSettings
from gateway.auth import key_id_of
from providers.address import Chosen, headers_of
from providers.backend import Signer
from providers.keys import ApiKey
from providers.registry import ProviderKind
from providers.sigv4 import Credentials


def chosen_of(name: str, settings: ProviderSettings) -> Chosen:
    """What the configuration says of one provider, as plain values."""
    return Chosen(
        name=name,
        base_url=settings.base_url,
        key=next(iter(settings.keys), ""),
        region=settings.region or "",
        project=settings.project or "",
        api_version=settings.api_version or "",
        wire=settings.wire,
        dialects=settings.dialects,
        headers=settings.headers,
    )


def signer_of(settings: ProviderSettings) -> Signer | None:
    """What signs a provider's requests, where its key is not one text. Raises ValueError for a service account that is none."""
    given = settings.credentials
    if given is None:
        return None
    from providers.credentials import AmazonSigner, GoogleSigner  # cryptography is heavy, and few need it

    if given.service_account is not None:
        return GoogleSigner(json.loads(given.service_account.get_secret_value()))
    secret, token = given.secret_access_key, given.session_token
    credentials = Credentials(given.access_key_id or "", secret.get_secret_value() if secret else "", token.get_secret_value() if token else None)
    return AmazonSigner(credentials, settings.region or "")


def keys_of(kind: ProviderKind, chosen: Chosen, settings: ProviderSettings) -> tuple[ApiKey, ...]:
    """Each of a provider's keys with the headers of its requests; a single one where there are none, or where requests are signed."""
    signed = settings.credentials is not None
    texts = settings.keys or ("",)
    unnamed = "credentials" if signed else "none"
    return tuple(ApiKey(key_id_of(text) if text else unnamed, headers_of(kind, msgspec.structs.replace(chosen, key=text), signed)) for text in texts)
