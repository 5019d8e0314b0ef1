"""The command line as a whole: its help, its settings, its way of complaining."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from app.cli import hookline
from models.sealing import new_master_key

ROOT = Path(__file__).parents[2]
SECRET = "bm90LWEtcmVhbC1rZXk"


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))


COMMANDS = dict(_commands(hookline))


def run_app(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m app …` in a process of its own, to its end."""
    env = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", **variables}
    command = [sys.executable, "-m", "app", *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, encoding="utf-8", timeout=60)


def test_the_commands_are_those_of_the_handbook() -> None:
    assert {" ".join(path) for path in COMMANDS} == {
        "dev",
        "listen",
        "events",
        "events publish",
        "deliveries",
        "deliveries replay",
        "organizations",
        "organizations create",
        "organizations list",
        "keys",
        "keys create",
        "keys import",
        "keys list",
        "keys revoke",
        "webhooks",
        "webhooks import",
        "migrate",
        "serve",
        "worker",
        "schema",
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_and_each_of_its_options(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(hookline, [*path, "--help"])

    assert result.exit_code == 0
    command = COMMANDS[path]
    for parameter in command.params:
        assert parameter.opts[0] in result.output or isinstance(parameter, click.Argument)
        assert not isinstance(parameter, click.Option) or parameter.help
    if not isinstance(command, click.Group):
        assert "Example:   hookline " in result.output or "hookline migrate" in result.output
        assert "Next:      " in result.output


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_list_of_commands_cuts_no_description_short(path: tuple[str, ...]) -> None:
    assert not COMMANDS[path].get_short_help_str(limit=60).endswith("...")


def test_help_needs_nothing_that_is_slow_to_import(tmp_path: Path) -> None:
    heavy = ("tortoise", "strawberry", "uvicorn", "starlette", "httpx", "pydantic", "cryptography")
    program = f"import sys, app.cli; print([name for name in {heavy!r} if name in sys.modules])"
    env = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_version_is_that_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert CliRunner().invoke(hookline, ["--version"]).output == f"hookline {version}\n"


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_each_bad_setting_is_named_in_a_line_and_no_value_is_repeated(command: str, tmp_path: Path) -> None:
    done = run_app(command, cwd=tmp_path, HOOKLINE_MASTER_KEY=SECRET, HOOKLINE_CONCURRENCY=SECRET)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: HOOKLINE_DATABASE_URL is not set.")
    assert "\n       HOOKLINE_CONCURRENCY: " in done.stderr
    assert SECRET not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("HOOKLINE_MASTER_KEY", SECRET, "a master key is the base64 of 32 bytes; this is not"),
        ("HOOKLINE_MASTER_KEY", ",", "must not be empty"),
        ("HOOKLINE_DATABASE_URL", SECRET, "must begin with postgres:// or sqlite://"),
        ("HOOKLINE_API_VERSIONS", ",", "must name at least one version"),
        ("HOOKLINE_LOG_LEVEL", SECRET, "must be DEBUG, INFO, WARNING or ERROR"),
        ("HOOKLINE_CONCURRENCY", "0", "Input should be greater than or equal to 1"),
    ],
)
def test_a_bad_value_is_explained_under_its_name(name: str, value: str, complaint: str, tmp_path: Path) -> None:
    good = {"HOOKLINE_DATABASE_URL": f"sqlite://{tmp_path}/hookline.db", "HOOKLINE_MASTER_KEY": new_master_key()}
    done = run_app("worker", cwd=tmp_path, **{**good, name: value})

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {name}: {complaint}")
    assert done.stderr.count("\n") == 1
    assert SECRET not in done.stderr


def test_the_printed_schema_is_the_one_that_is_kept(tmp_path: Path) -> None:
    done = run_app("schema", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "schema" / "schema.graphql").read_text(encoding="utf-8")


def test_a_usage_mistake_exits_with_2() -> None:
    result = CliRunner().invoke(hookline, ["serve", "--processes", "0"])
    assert result.exit_code == 2
    assert "Invalid value for '--processes': 0 is not in the range x>=1." in result.output
