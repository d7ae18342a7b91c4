"""Amazon's own signer, as the judge of ours."""

from collections.abc import Mapping

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


class SignedAt(SigV4Auth):  # type: ignore[misc]
    """Signs at the time that the request's own date says."""

    def __init__(self, credentials: Credentials, service: str, region: str, stamp: str) -> None:
        super().__init__(credentials, service, region)
        self._stamp = stamp

    def authorization(self, request: AWSRequest) -> str:
        request.context["timestamp"] = self._stamp
        self._modify_request_before_signing(request)
        signature = self.signature(self.string_to_sign(request, self.canonical_request(request)), request)
        self._inject_signature_to_request(request, signature)
        return str(request.headers["Authorization"])


class S3SignedAt(SignedAt, S3SigV4Auth):  # type: ignore[misc]
    """S3's way: the path as it is, the body's hash in a header."""


def authorization(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    key: tuple[str, str, str | None],
    region: str,
    stamp: str,
    service: str = "bedrock",
) -> str:
    """The `authorization` that Amazon wants for it. `headers` those that were signed, without host and date; `stamp` as in `x-amz-date`."""
    request = AWSRequest(method=method, url=url, headers=dict(headers), data=body)
    signed = S3SignedAt if service == "s3" else SignedAt
    return signed(Credentials(*key), service, region, stamp).authorization(request)
