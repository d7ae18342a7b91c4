"""The inference routes as plain ASGI, in front of the FastAPI app: no middleware, no model binding, no task a request.

Everything that is not one of these routes goes to the app, with `x-request-id` added.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from contract.errors import AttemptsExhausted, ClientClosed, MethodNotAllowed, RequestTimeout, TurnoutError
from contract.head import HeaderList
from gateway.binding import may_be_bound
from gateway.client import Client, Message, Receive, Scope, Send
from gateway.cycle import EXTENSION
from gateway.endpoints import ENDPOINTS, InferenceEndpoint
from gateway.errors import decision_of, shown
from gateway.identity import new_request_id
from gateway.job import Job
from gateway.job_making import bind, job_of, name_the_fault
from gateway.runtime import Runtime
from gateway.telemetry.trace import trace_of
from providers.wires.port import Dialect

log = structlog.get_logger("turnout.edge")

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class FastPath:
    """An ASGI app. `runtime` may be replaced at any time; a request keeps the one it began with."""

    def __init__(self, app: App, runtime: Runtime) -> None:
        self._app = app
        self.runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request_id = new_request_id()
        endpoint = ENDPOINTS.get(scope["path"])
        if endpoint is None:
            return await self._pass_on(scope, receive, send, request_id)
        client = Client(receive, send, scope["extensions"].get(EXTENSION) if "extensions" in scope else None)
        runtime = self.runtime
        job: Job | None = None
        try:
            job = await self._job(runtime, client, scope, endpoint, request_id)
            await runtime.pipeline.run(job)
        except TurnoutError as error:
            if job is not None:
                _explain(job, error)
            await self._refuse(endpoint.words, client, error, request_id)
        except asyncio.CancelledError:
            if not client.left:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()  # it was our own doing: the client is gone, and nobody else asked this task to end
        except Exception as exc:  # the edge is the last line: whatever went wrong, the caller gets an answer and the log the reason
            log.exception("unexpected error", request_id=request_id, error=type(exc).__name__)
            await self._refuse(endpoint.words, client, TurnoutError("the gateway failed; the request id leads to its log"), request_id)
        finally:
            client.unguard()
            runtime.observing.watching.ended(request_id, endpoint.name, client, job)

    async def _job(self, runtime: Runtime, client: Client, scope: Scope, endpoint: InferenceEndpoint, request_id: str) -> Job:
        headers: HeaderList = scope["headers"]
        principal = runtime.keys.principal(headers)
        if scope["method"] != "POST":
            raise MethodNotAllowed(f"{scope['path']} takes POST, not {scope['method']}")
        limits = runtime.limits
        body = client.whole_body(headers, limits.max_body_bytes, endpoint.media)
        if body is None:
            body = await client.rest_of_body(limits.max_body_bytes, limits.body_idle_s)
        call = endpoint.read(request_id, body, headers)
        client.guard()
        job = job_of(runtime, endpoint, call, principal, client, headers)
        if may_be_bound(job.call):
            await bind(job, runtime)
        job.trace = trace_of(headers, runtime.observing.watching.sample)
        return job

    async def _refuse(self, words: Dialect, client: Client, error: TurnoutError, request_id: str) -> None:
        """Sends the error, unless the answer has begun already or nobody is there."""
        if client.left or client.status or isinstance(error, ClientClosed):
            return
        if not client.read and not isinstance(error, RequestTimeout):
            await client.discard()
        shape = shown(error)
        attempts = error.made if isinstance(error, AttemptsExhausted) else 0
        body = words.encode_error(error, shape.type, request_id, attempts)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            *shape.headers,
        ]
        if attempts:
            headers.append((b"x-turnout-attempts", b"%d" % attempts))
        if decision := decision_of(error):
            headers.append((b"x-turnout-decision", decision.encode()))
        if error.cache:
            headers.append((b"x-turnout-cache", error.cache.encode()))
        if not client.read:
            headers.append((b"connection", b"close"))
        await client.start(shape.status, headers)
        await client.end(body)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        scope.setdefault("state", {})["request_id"] = request_id
        header = (b"x-request-id", request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        await self._app(scope, receive, send_with_id)


def _explain(job: Job, error: TurnoutError) -> None:
    """What the job's own part in a refusal is."""
    name_the_fault(job.call, error)
    error.decision = "" if job.planning is None else job.planning.plan.why
    error.cache = job.cache or ""
