"""Organizations and keys by command, on the database of the settings and on that of a data folder."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from app.cli import hookline
from app.cli.keys import SCOPES
from app.settings import Settings
from app.wiring import hookline as house_of
from models.database import connect
from models.sealing import new_master_key
from resolvers.caller import Caller, Scope, spelt_out
from resolvers.keys import authenticate

ODD_TOKEN = "sk_live:0042/ab+c==.~odd|format"

Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on `database_url`; fails unless it ends with `code`."""
    monkeypatch.setenv("HOOKLINE_DATABASE_URL", database_url)

    def run(*arguments: str, stdin: str = "", code: int = 0) -> Result:
        result = CliRunner().invoke(hookline, arguments, input=stdin)
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def acme(run: Run) -> str:
    """The id of an organization called Acme."""
    return run("organizations", "create", "Acme").stdout.strip()


def _json(result: Result) -> Any:
    return json.loads(result.stdout)


def _caller(url: str, token: str) -> Caller | None:
    """Whom the server would take the bearer of the token for."""

    async def ask() -> Caller | None:
        async with house_of(Settings(database_url=url, master_key=SecretStr(new_master_key()))) as house:
            return await authenticate(house.desk, token)

    return asyncio.run(ask())


def test_a_made_organization_is_listed(run: Run) -> None:
    made = _json(run("organizations", "create", "Acme", "--external-id", "customer-17", "--json"))
    assert {field: made[field] for field in ("name", "external_id")} == {"name": "Acme", "external_id": "customer-17"}
    assert _json(run("organizations", "list", "--json")) == [made]
    heads, row = run("organizations", "list").stdout.splitlines()
    assert heads.split() == ["ID", "NAME", "EXTERNAL", "ID", "CREATED"]
    assert row.split() == [made["id"], "Acme", "customer-17", made["created_at"]]


def test_a_taken_external_id_is_refused_and_makes_nothing(run: Run) -> None:
    made = run("organizations", "create", "Acme", "--external-id", "customer-17").stdout.strip()
    refused = run("organizations", "create", "Other", "--external-id", "customer-17", code=1)
    assert refused.output == f"Error: externalId: is taken by Acme ({made})\n"
    assert [one["name"] for one in _json(run("organizations", "list", "--json"))] == ["Acme"]


def test_a_made_key_opens_the_door_and_its_token_is_printed_alone(run: Run, acme: str, database_url: str) -> None:
    made = run("keys", "create", "--organization", acme, "--scope", "events:publish", "--scope", "events:read")
    [token] = made.stdout.splitlines()
    caller = _caller(database_url, token)
    assert caller is not None
    assert caller.scopes == {Scope.EVENTS_PUBLISH, Scope.EVENTS_READ}
    assert token not in made.stderr


def test_a_key_has_every_scope_but_platform_unless_told(run: Run, acme: str) -> None:
    made = _json(run("keys", "create", "--organization", "Acme", "--json"))
    assert (made["organization_id"], made["scopes"], made["expires_at"]) == (acme, ["*"], None)


def test_every_scope_can_be_given() -> None:
    assert set(SCOPES) == {str(scope) for scope in Scope}


def test_a_key_may_expire_at_a_moment_that_is_utc_unless_it_says_otherwise(run: Run, acme: str) -> None:
    def expiry(text: str) -> str:
        made = _json(run("keys", "create", "--organization", acme, "--expires-at", text, "--json"))
        return str(made["expires_at"])

    assert expiry("2999-01-31T12:00:00") == "2999-01-31T12:00:00Z"
    assert expiry("2999-01-31T12:00:00+02:00") == "2999-01-31T10:00:00Z"


def test_an_expiry_in_the_past_is_refused_and_makes_no_key(run: Run, acme: str) -> None:
    refused = run("keys", "create", "--organization", acme, "--expires-at", "2001-01-01", code=1)
    assert refused.output == "Error: expiresAt: must be a moment in the future\n"
    assert _json(run("keys", "list", "--json")) == []


def test_what_is_no_moment_is_a_usage_mistake(run: Run) -> None:
    refused = run("keys", "create", "--organization", "Acme", "--expires-at", "soon", code=2)
    assert "'soon' is not a moment; write it like 2030-01-31T12:00:00Z" in refused.output


def test_an_imported_token_of_an_odd_old_format_opens_the_door(run: Run, acme: str, database_url: str) -> None:
    imported = run(
        "keys", "import", "--organization", acme, "--token-stdin", "--scope", "webhooks:read", stdin=f"{ODD_TOKEN}\n"
    )
    assert ODD_TOKEN not in imported.output
    caller = _caller(database_url, ODD_TOKEN)
    assert caller is not None
    assert caller.scopes == spelt_out(["webhooks:read"])
    assert _caller(database_url, ODD_TOKEN[:-1]) is None


@pytest.mark.parametrize(
    ("stdin", "complaint"),
    [
        ("", "there is no token on standard input"),
        ("two words that are one token", "token: must be 16 to 4096 printable ASCII characters without blanks"),
        ("a-first-token-on-a-line\na-second-token-on-a-line", "token: must be 16 to 4096 printable ASCII characters"),
        ("schlüssel-schlüssel", "token: must be 16 to 4096 printable ASCII characters without blanks"),
    ],
)
def test_what_cannot_be_a_token_is_not_imported_and_not_repeated(
    run: Run, acme: str, stdin: str, complaint: str
) -> None:
    refused = run("keys", "import", "--organization", acme, "--token-stdin", stdin=stdin, code=1)
    assert complaint in refused.output
    assert not stdin or stdin not in refused.output
    assert _json(run("keys", "list", "--json")) == []


def test_a_token_is_imported_once(run: Run, acme: str) -> None:
    run("keys", "import", "--organization", acme, "--token-stdin", stdin=ODD_TOKEN)
    again = run("keys", "import", "--organization", acme, "--token-stdin", stdin=ODD_TOKEN, code=1)
    assert again.output == "Error: token: is known already\n"
    assert len(_json(run("keys", "list", "--json"))) == 1


def test_a_token_is_never_taken_from_the_command_line(run: Run, acme: str) -> None:
    refused = run("keys", "import", "--organization", acme, stdin=ODD_TOKEN, code=2)
    assert "Missing option '--token-stdin'" in refused.output


def test_listed_keys_show_whose_they_are_and_never_a_token(run: Run, acme: str) -> None:
    other = run("organizations", "create", "Other").stdout.strip()
    first = _json(run("keys", "create", "--organization", acme, "--name", "backend", "--json"))
    second = _json(run("keys", "create", "--organization", other, "--json"))

    table, listed = run("keys", "list").output, run("keys", "list", "--json").output
    for token in (first.pop("token"), second.pop("token")):
        assert token not in table
        assert token not in listed
        assert token[:12] in table
    assert json.loads(listed) == [first, second]
    assert _json(run("keys", "list", "--organization", "Acme", "--json")) == [first]
    assert [line.split()[1:3] for line in table.splitlines()[1:]] == [["Acme", "backend"], ["Other", "command"]]


def test_a_revoked_key_opens_nothing_and_stays_listed(run: Run, acme: str, database_url: str) -> None:
    made = _json(run("keys", "create", "--organization", acme, "--json"))
    assert run("keys", "revoke", made["id"]).stdout == f"{made['id']}\n"
    assert _caller(database_url, made["token"]) is None
    [listed] = _json(run("keys", "list", "--json"))
    assert (listed["id"], listed["revoked_at"] is None) == (made["id"], False)
    assert f"revoked {listed['revoked_at']}" in run("keys", "list").stdout


def test_revoking_what_is_no_key_says_where_to_look(run: Run) -> None:
    assert run("keys", "revoke", "key_nothing", code=1).output == (
        "Error: there is no key key_nothing; `hookline keys list` shows all\n"
    )


def test_a_key_for_an_unknown_organization_is_refused(run: Run) -> None:
    refused = run("keys", "create", "--organization", "Nobody", code=1)
    assert refused.output.startswith("Error: there is no organization 'Nobody';")


def test_a_name_that_two_organizations_bear_is_not_guessed(run: Run, acme: str) -> None:
    run("organizations", "create", "Acme")
    refused = run("keys", "create", "--organization", "Acme", code=1)
    assert "several organizations are called Acme; give the id (org_…)" in refused.output
    assert _json(run("keys", "list", "--json")) == []


def test_empty_lists_are_empty_json_and_say_how_to_go_on(run: Run) -> None:
    assert run("keys", "list", "--json").output == "[]\n"
    listed = run("organizations", "list")
    assert (listed.stdout, "organizations create NAME" in listed.stderr) == ("", True)


def test_the_database_of_a_data_folder_comes_before_that_of_the_settings(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    _migrate(f"sqlite://{data}/hookline.db")
    run("organizations", "create", "Acme", "--data", str(data))
    assert len(_json(run("organizations", "list", "--json", "--data", str(data)))) == 1
    assert _json(run("organizations", "list", "--json")) == []


def test_without_settings_the_folder_of_dev_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    missing = CliRunner().invoke(hookline, ["organizations", "list"])
    assert missing.exit_code == 1
    assert missing.output.startswith("Error: there is no database .hookline/hookline.db yet: `hookline dev` makes one")
    assert list(tmp_path.iterdir()) == []

    _migrate("sqlite://.hookline/hookline.db")
    assert CliRunner().invoke(hookline, ["organizations", "list", "--json"]).output == "[]\n"


def _migrate(url: str) -> None:
    assert CliRunner().invoke(hookline, ["migrate"], env={"HOOKLINE_DATABASE_URL": url}).exit_code == 0


def test_migrate_makes_the_tables_and_may_be_repeated(blank_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLINE_DATABASE_URL", blank_database_url)
    too_early = CliRunner().invoke(hookline, ["organizations", "create", "Acme"])
    assert too_early.exit_code == 1
    assert "`hookline migrate`" in too_early.output

    for _ in range(2):
        migrated = CliRunner().invoke(hookline, ["migrate"])
        assert (migrated.exit_code, migrated.stderr) == (0, "")
        assert migrated.stdout.endswith(" are up to date.\n")
    assert CliRunner().invoke(hookline, ["organizations", "create", "Acme"]).exit_code == 0
    assert asyncio.run(_organizations(blank_database_url)) == ["Acme"]


async def _organizations(url: str) -> list[str]:
    from resolvers.organizations import list_all

    async with connect(url):
        return [one.name for one in await list_all()]


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        (None, "HOOKLINE_DATABASE_URL is not set"),
        ("mysql://root:hunter2@db/x", "HOOKLINE_DATABASE_URL must begin with postgres:// or sqlite://"),
        ("postgres://hookline:hunter2@127.0.0.1:1/x", "cannot use the database postgres://hookline:…@127.0.0.1:1/x: "),
    ],
)
def test_a_database_that_cannot_be_used_is_a_line_without_the_password(
    url: str | None, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url:
        monkeypatch.setenv("HOOKLINE_DATABASE_URL", url)
    result = CliRunner().invoke(hookline, ["migrate"])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {complaint}")
    assert "hunter2" not in result.output
