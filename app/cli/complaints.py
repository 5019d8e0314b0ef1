"""Bad settings, said in one line for each variable instead of a traceback."""

import sys
from typing import Any

import click


class ClearGroup(click.Group):
    """A group whose commands may meet bad settings."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            settings = sys.modules.get("app.settings")  # not imported for this alone: that takes a while
            if settings is None or not isinstance(error, settings.SettingsError):
                raise
            first, *more = str(error).splitlines()
            raise click.ClickException("\n       ".join([first, *more])) from error
