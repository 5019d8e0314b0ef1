"""The command line. Each command imports what it runs on only when it is run, so that `--help` answers at once."""

import os

import click

from app.cli.complaints import ClearGroup
from app.cli.database import migrate
from app.cli.deliveries import deliveries
from app.cli.events import events
from app.cli.keys import keys
from app.cli.listen import listen
from app.cli.organizations import organizations
from app.cli.printing import version
from app.cli.schema import schema
from app.cli.servers import dev, serve, worker
from app.cli.webhooks import webhooks


class InOrder(ClearGroup):
    """Lists its commands as they were added: the first thing to do first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"hookline {version()}")
        context.exit()


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version, and end.",
)
@click.pass_context
def hookline(context: click.Context) -> None:
    """Webhooks beside your backend: register, sign, deliver, see what became of each.

    \b
    To try it, in one terminal:          hookline dev
    in a second, receive:                hookline listen
    in a third, publish:                 hookline events publish order.paid '{"total": 42}'

    In production, `migrate` the database, then run `serve` and any number of `worker`, all with the same
    settings: HOOKLINE_DATABASE_URL, HOOKLINE_REDIS_URL and HOOKLINE_MASTER_KEY.
    """
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        context.color = False


for command in (dev, listen, events, deliveries, organizations, keys, webhooks, migrate, serve, worker, schema):
    hookline.add_command(command)
