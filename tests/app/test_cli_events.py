"""`hookline events publish`: what it sends, what it says. Against a whole Hookline it is tried in the journeys."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli import hookline
from tests.receivers import Answer, Receiver, in_a_thread
from tests.services import free_port

EVENT_ID = "evt_01h2xcejqtf2nbrexx3vqjhp41"

Publish = Callable[..., Result]


def _answer(result: dict[str, Any], status: int = 200) -> Answer:
    return Answer(status, body=json.dumps({"data": {"publishEvent": result}}).encode())


def _published(matched: int, *, duplicate: bool = False) -> Answer:
    event = {"id": EVENT_ID, "type": "order.paid"}
    return _answer({"event": event, "matchedWebhookCount": matched, "duplicate": duplicate})


@pytest.fixture
def server() -> Iterator[Receiver]:
    """Answers as a Hookline that one webhook of wants the event."""
    with in_a_thread(Receiver(_published(1))) as receiver:
        yield receiver


@pytest.fixture
def publish(server: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Publishes to `server`, from an empty folder."""
    monkeypatch.chdir(tmp_path)

    def publish(*arguments: str, stdin: str = "", found: bool = True) -> Result:
        to = ("--url", server.origin, "--key", "hkl_told") if found else ()
        return CliRunner().invoke(hookline, ["events", "publish", *arguments, *to], input=stdin)

    return publish


def _input(server: Receiver) -> Any:
    [request] = server.requests
    return json.loads(request.body)["variables"]["input"]


def test_what_was_published_is_named_with_the_number_of_webhooks(publish: Publish, server: Receiver) -> None:
    result = publish("order.paid", '{"total": 42}')
    assert (result.exit_code, result.output) == (0, f"{EVENT_ID}  order.paid  matched 1 webhook\n")
    assert server.requests[0].path == "/graphql"
    assert server.requests[0].header("Authorization") == "Bearer hkl_told"
    assert _input(server) == {"type": "order.paid", "data": {"total": 42}}


def test_an_event_nobody_wants_comes_with_a_way_to_receive_it(publish: Publish, server: Receiver) -> None:
    server.answers = [_published(0)]
    result = publish("order.paid", "null")
    assert (result.exit_code, result.stdout) == (0, f"{EVENT_ID}  order.paid  matched 0 webhooks\n")
    assert result.stderr.startswith("No webhook wants it.")


def test_an_event_published_before_is_said_to_be_so(publish: Publish, server: Receiver) -> None:
    server.answers = [_published(2, duplicate=True)]
    result = publish("order.paid", "1", "--idempotency-key", "order-17", "--occurred-at", "2026-01-31T12:00:00")
    assert result.output == (
        f"{EVENT_ID}  order.paid  matched 2 webhooks  published before, under this idempotency key\n"
    )
    assert _input(server) == {
        "type": "order.paid",
        "data": 1,
        "idempotencyKey": "order-17",
        "occurredAt": "2026-01-31T12:00:00+00:00",
    }


def test_the_data_may_come_from_standard_input_or_a_file(publish: Publish, server: Receiver, tmp_path: Path) -> None:
    (tmp_path / "order.json").write_text('{"für": "Zoë"}', encoding="utf-8")
    assert publish("order.paid", "-", stdin="[1, 2]").exit_code == 0
    assert publish("order.paid", "@order.json").exit_code == 0
    sent = [json.loads(request.body)["variables"]["input"]["data"] for request in server.requests]
    assert sent == [[1, 2], {"für": "Zoë"}]


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        (
            '{"total": 42',
            "the argument is not JSON: Expecting ',' delimiter at line 1, column 13. Quote it for the shell",
        ),
        ("{total: 42}", "the argument is not JSON: Expecting property name enclosed in double quotes at line 1"),
        ('{"total": NaN}', "NaN is not JSON: numbers are finite there. Use null."),
        ("[" * 100_000, "the argument is nested too deeply"),
        ("-", "standard input is not JSON: Expecting value at line 1, column 1"),
        ("@nowhere.json", "nowhere.json cannot be read: "),
    ],
    ids=["cut", "unquoted", "nan", "deep", "empty", "no file"],
)
def test_what_is_not_json_is_explained_and_not_sent(
    publish: Publish, server: Receiver, argument: str, complaint: str
) -> None:
    result = publish("order.paid", argument)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {complaint}")
    assert server.requests == []


def test_a_refusal_names_each_field_and_exits_with_1(publish: Publish, server: Receiver) -> None:
    server.answers = [
        _answer(
            {
                "code": "VALIDATION_FAILED",
                "message": "type: is not in the catalogue (and 1 more)",
                "fields": [
                    {"path": ["input", "type"], "message": "is not in the catalogue"},
                    {"path": ["input", "data", "total"], "message": "must be a number\x1b[2J"},
                ],
            }
        )
    ]
    result = publish("order.payed", "{}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: refused (VALIDATION_FAILED):\n  type: is not in the catalogue\n"
        "  data.total: must be a number\\u001b[2J\n"
    )


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (
            _answer({"code": "FORBIDDEN", "message": "this key lacks a scope"}),
            "refused (FORBIDDEN): this key lacks a scope",
        ),
        (
            _answer({"code": "RATE_LIMITED", "message": "Too many.", "retryAfterSeconds": 7.2}),
            "refused (RATE_LIMITED): Too many. Try again in 7 s.",
        ),
        (Answer(200, body=b'{"data": null, "errors": [{"message": "Query is too deep."}]}'), "Query is too deep."),
        (Answer(401, body=b'{"errors": []}'), "{url} does not accept the API key (as told): it is unknown, expired or"),
        (Answer(404, body=b"<html>"), "{url}/graphql does not answer as Hookline does (status 404). Check --url."),
        (Answer(200, body=b"[]"), "{url}/graphql does not answer as Hookline does (status 200). Check --url."),
        (Answer(302, [("Location", "/login")]), "{url}/graphql does not answer as Hookline does (status 302)."),
    ],
    ids=["forbidden", "rate limited", "request error", "unauthenticated", "elsewhere", "a list", "redirect"],
)
def test_what_the_server_objects_to_is_one_line(
    publish: Publish, server: Receiver, answer: Answer, complaint: str
) -> None:
    server.answers = [answer]
    result = publish("order.paid", "{}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {complaint.format(url=server.origin)}")
    assert result.stderr.count("\n") == 1
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_said_to_be_so(publish: Publish) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = publish("order.paid", "{}", "--url", url, "--key", "k", found=False)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: nothing answers at {url} (as told). Is `hookline dev` running?")


def test_the_note_of_a_running_dev_is_enough(publish: Publish, server: Receiver, tmp_path: Path) -> None:
    (tmp_path / ".hookline").mkdir()
    (tmp_path / ".hookline" / "dev.json").write_text(json.dumps({"url": server.origin, "api_key": "hkl_noted"}))
    assert publish("order.paid", "{}", found=False).exit_code == 0
    assert server.requests[0].header("Authorization") == "Bearer hkl_noted"


def test_options_come_before_the_environment_and_that_before_the_note(
    publish: Publish, server: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    note = {"url": f"http://127.0.0.1:{free_port()}", "api_key": "hkl_noted"}
    (tmp_path / "data" / "dev.json").write_text(json.dumps(note))
    monkeypatch.setenv("HOOKLINE_URL", f"{server.origin}/graphql")
    monkeypatch.setenv("HOOKLINE_API_KEY", "hkl_environment")
    assert publish("order.paid", "{}", "--data", "data", found=False).exit_code == 0
    assert publish("order.paid", "{}", "--data", "data").exit_code == 0
    keys = [request.header("Authorization") for request in server.requests]
    assert keys == ["Bearer hkl_environment", "Bearer hkl_told"]


def test_the_key_of_the_note_is_shown_to_no_other_server(publish: Publish, server: Receiver, tmp_path: Path) -> None:
    (tmp_path / ".hookline").mkdir()
    note = {"url": f"http://127.0.0.1:{free_port()}", "api_key": "hkl_noted"}
    (tmp_path / ".hookline" / "dev.json").write_text(json.dumps(note))
    result = publish("order.paid", "{}", "--url", server.origin, found=False)
    assert (result.exit_code, server.requests) == (1, [])
    assert result.output == f"Error: no API key for {server.origin}: give --key, or set HOOKLINE_API_KEY\n"


def test_without_any_server_it_says_how_to_find_one(publish: Publish) -> None:
    result = publish("order.paid", "{}", found=False)
    assert result.exit_code == 1
    assert result.output.startswith("Error: no server is known here, for there is no .hookline/dev.json: start")


def test_a_key_that_no_header_can_carry_is_not_repeated(publish: Publish, server: Receiver) -> None:
    result = publish("order.paid", "{}", "--url", server.origin, "--key", "geheimnis\nü", found=False)
    assert (result.exit_code, server.requests) == (1, [])
    assert "has characters that no HTTP header can carry" in result.output
    assert "geheimnis" not in result.output
