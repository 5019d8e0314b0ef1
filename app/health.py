"""Health checks: whether the process lives, and whether it can take work."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from app.wiring import House


async def live(request: Request) -> Response:
    """The process answers. Nothing else is asked, so a database that is away does not get it killed."""
    return JSONResponse({"status": "ok"})


async def ready(request: Request) -> Response:
    """The database answers. Redis is reported, but without it everything goes on, so it is not required."""
    house: House = request.app.state.house
    checks = {"database": "ok", "redis": "ok"}
    try:
        await house.desk.ledger.ping()
    except Exception as error:
        checks["database"] = type(error).__name__
    try:
        await house.redis.ping()
    except Exception as error:
        checks["redis"] = f"{type(error).__name__} (not required)"
    healthy = checks["database"] == "ok"
    return JSONResponse(
        {"status": "ok" if healthy else "unavailable", "checks": checks}, status_code=200 if healthy else 503
    )


def routes() -> list[BaseRoute]:
    """`GET /health/live` and `GET /health/ready`."""
    return [Route("/health/live", live), Route("/health/ready", ready)]
