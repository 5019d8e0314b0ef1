"""Commands that run until they are told to stop: SIGINT or SIGTERM drains, then they exit with 0."""

from pathlib import Path

import click

from app.cli.options import DATA, HOST, PORT


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help=HOST)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help=PORT)
@click.option("--data", type=DATA, default=Path(".hookline"), show_default=True, help="Where to keep everything.")
@click.option("--api-key", metavar="TOKEN", help="Make this the demo organization's key, with scope *.")
def dev(host: str, port: int, data: Path, api_key: str | None) -> None:
    """Run everything in this one process, to try it out.

    The API, GraphiQL and a worker, on SQLite and an in-process Redis: nothing needs to be installed. The first
    start makes a demo organization and a key for it, and prints what to do with them. Webhooks may point to
    loopback and to plain http here, which `serve` refuses.

    \b
    Example:   hookline dev --port 8080
    Next:      open http://127.0.0.1:8080/graphql, or run `hookline listen` in a second terminal.
    """
    from app.dev import run_dev

    run_dev(host, port, data, api_key)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help=HOST)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help=PORT)
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="How many share the port.")
def serve(host: str, port: int, processes: int) -> None:
    """Run the API server.

    GraphQL, GraphiQL, REST and health checks; deliveries are made by `hookline worker`.

    It needs HOOKLINE_DATABASE_URL (PostgreSQL), HOOKLINE_REDIS_URL and HOOKLINE_MASTER_KEY, and tables made by
    `hookline migrate`. Any number may run at once.

    \b
    Example:   hookline serve --host 0.0.0.0 --processes 4
    Next:      GET /health/ready answers 200 when it is up; then run `hookline worker`.
    """
    from app.serve import run_serve

    run_serve(host, port, processes)


@click.command()
def worker() -> None:
    """Run a worker, which delivers.

    It sends what is due, tries again what failed, and tidies up.

    Takes the same settings as `serve`. Any number may run at once; a killed one loses nothing, the others take
    over what it held.

    \b
    Example:   hookline worker
    Next:      publish an event, and look at its deliveries in GraphiQL.
    """
    from app.serve import run_worker

    run_worker()
