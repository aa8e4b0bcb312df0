"""Whether this process can do its work: 200, or 503 naming what fails. Needs no token."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from taskyard.errors import TaskyardError
from taskyard.runtime import Runtime

PATH = "/api/ai/tasks/health"


def health_route(runtime: Runtime) -> Route:
    async def health(_request: Request) -> Response:
        try:
            await runtime.reader.head()
        except TaskyardError:
            return JSONResponse(
                {"status": "failing", "checks": {"database": "failing"}},
                status_code=503,
                headers={"Retry-After": "5"},
            )
        return JSONResponse({"status": "ok", "checks": {"database": "ok"}})

    return Route(PATH, health)
