"""One provider's settings as the providers package takes them: plain values, and what signs its requests."""

import json

from config.settings import ProviderSettings
from providers.address import Chosen
from providers.backend import Signer
from providers.sigv4 import Credentials


def chosen_of(name: str, settings: ProviderSettings) -> Chosen:
    """What the configuration says of one provider, as plain values."""
    return Chosen(
        name=name,
        base_url=settings.base_url,
        key=settings.api_key.get_secret_value() if settings.api_key else "",
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
