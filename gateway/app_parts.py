"""What the app's routes share: who asks."""

from typing import Annotated

from fastapi import Depends, Request

from gateway.auth import Principal
from gateway.runtime import Runtime


def principal(request: Request) -> Principal:
    """Who asks. Raises AuthenticationFailed."""
    runtime: Runtime = request.app.state.runtime
    return runtime.keys.principal(request.scope["headers"])


Caller = Annotated[Principal, Depends(principal)]
