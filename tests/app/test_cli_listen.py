"""`hookline listen`, as a process and piece by piece. Registered with a whole Hookline it is tried in the journeys."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner
from standardwebhooks import Webhook

from app.cli import hookline
from app.cli.listen import entry, problem_with
from tests.receivers import Answer, Received, Receiver, in_a_thread
from tests.services import free_port, tethered

ROOT = Path(__file__).parents[2]
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
NOW = datetime(2026, 4, 1, 12, 0, 0, tzinfo=UTC)
BODY = b'{"type":"order.paid","timestamp":"2026-04-01T11:59:59.988Z","data":{"total":42}}'
WITHIN_S = 30


def _signed(body: bytes, *, secret: str = SECRET, id: str = "msg_1", at: datetime | None = None) -> dict[str, str]:
    moment = at or datetime.now(UTC)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign(id, moment, body.decode()),
    }


class Listening:
    """A running `hookline listen`."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        env = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
        self._log = cwd / "listen.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                tethered(sys.executable, "-m", "app", "listen", *arguments), cwd=cwd, env=env, stdout=log, stderr=log
            )

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def prints(self, text: str) -> None:
        """Waits until it has printed the text."""
        deadline = time.monotonic() + WITHIN_S
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)

    def ends_with(self, code: int) -> None:
        assert self.process.wait(WITHIN_S) == code, self.output


Start = Callable[..., Listening]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `hookline listen`, to be ended with the test."""
    started: list[Listening] = []

    def start(*arguments: str) -> Listening:
        started.append(Listening(*arguments, cwd=tmp_path))
        return started[-1]

    yield start
    for listening in started:
        listening.process.kill()
        listening.process.wait()


# ── with a secret ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_signed_rightly_is_shown_verified_and_answered_with_204(start: Start) -> None:
    port = free_port()
    listening = start("--port", str(port), "--secret", SECRET)
    listening.prints(f"Listening on http://127.0.0.1:{port}/")

    def post(headers: dict[str, str]) -> int:
        return httpx.post(f"http://127.0.0.1:{port}/anything", content=BODY, headers=headers).status_code

    assert post(_signed(BODY, id="msg_1")) == 204
    listening.prints('"total": 42')
    assert "order.paid  msg_1  ✓ verified  after " in listening.output
    assert "repeat" not in listening.output

    assert post(_signed(BODY, id="msg_1")) == 204
    listening.prints("order.paid  msg_1  ✓ verified  repeat  after ")

    assert post(_signed(BODY, id="msg_2", secret=OTHER_SECRET)) == 401
    listening.prints("order.paid  msg_2  ✗ wrong signature")
    assert post(_signed(BODY, id="msg_2")) == 204
    listening.prints("order.paid  msg_2  ✓ verified  after ")

    assert "\x1b" not in listening.output
    listening.process.send_signal(signal.SIGTERM)
    listening.ends_with(0)


def test_what_is_too_large_to_look_at_is_refused(start: Start) -> None:
    port = free_port()
    start("--port", str(port), "--secret", SECRET).prints("Listening on")
    answer = httpx.post(f"http://127.0.0.1:{port}/", content=bytes(1_048_577))
    assert answer.status_code == 413


def test_a_taken_port_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(hookline, ["listen", "--port", str(port), "--secret", SECRET])
    assert result.exit_code == 1
    assert result.output == (
        f"Error: port {port} is taken on 127.0.0.1. Choose another with --port; 0 takes any that is free.\n"
    )


@pytest.mark.parametrize("secret", ["hunter2hunter2", "whsec_hunter2", "whsec_" + "A" * 30, OTHER_SECRET[6:]])
def test_what_is_no_secret_is_refused_and_not_repeated(secret: str) -> None:
    result = CliRunner().invoke(hookline, ["listen", "--secret", secret])
    assert result.exit_code == 2
    assert "a secret is whsec_ and the base64 of 24 to 64 bytes; this is none" in result.output
    assert secret not in result.output


def test_patterns_have_no_use_with_a_secret() -> None:
    result = CliRunner().invoke(hookline, ["listen", "--secret", SECRET, "--events", "order.*"])
    assert result.exit_code == 2
    assert "with --secret nothing is registered" in result.output


# ── registered ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Registry:
    """Answers GraphQL as a server whose webhooks are `webhooks`."""

    def __init__(self, *webhooks: dict[str, str]) -> None:
        self.webhooks = list(webhooks)
        self.created: list[dict[str, Any]] = []

    def __call__(self, request: Received) -> Answer:
        asked = json.loads(request.body)
        given = asked["variables"].get("input")
        if "createWebhook" in asked["query"]:
            self.created.append(given)
            webhook = {"id": "whk_new", "name": given["name"], "url": given["url"]}
            self.webhooks.append(webhook)
            shown = {"id": "whk_new", "eventPatterns": given["eventPatterns"]}
            return _data(createWebhook={"secret": SECRET, "webhook": shown})
        if "deleteWebhook" in asked["query"]:
            self.webhooks = [webhook for webhook in self.webhooks if webhook["id"] != given["id"]]
            return _data(deleteWebhook={"deletedWebhookId": given["id"]})
        return _data(webhooks={"nodes": self.webhooks})


def _data(**data: object) -> Answer:
    return Answer(200, body=json.dumps({"data": data}).encode())


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_registers_itself_and_removes_itself_at_the_end(start: Start, end: signal.Signals) -> None:
    registry, port = Registry(), free_port()
    with in_a_thread(Receiver(registry)) as server:
        listening = start(
            "--port", str(port), "--events", "order.*", "--events", "user.created", "--url", server.origin, "--key", "k"
        )
        listening.prints("events publish order.created '{\"total\": 42}'")
        wanted = {"name": "hookline listen", "url": f"http://127.0.0.1:{port}/"}
        assert registry.created == [{**wanted, "eventPatterns": ["order.*", "user.created"]}]
        assert [webhook["id"] for webhook in registry.webhooks] == ["whk_new"]
        assert httpx.post(f"http://127.0.0.1:{port}/", content=BODY, headers=_signed(BODY)).status_code == 204

        listening.process.send_signal(end)
        listening.ends_with(0)
        assert registry.webhooks == []
        assert listening.output.endswith("Removed whk_new.\n")


def test_what_a_killed_listener_left_at_this_address_is_removed_and_nothing_else(start: Start) -> None:
    port = free_port()
    here, elsewhere = f"http://127.0.0.1:{port}/", "http://127.0.0.1:1/"
    others = [
        {"id": "whk_elsewhere", "name": "hookline listen", "url": elsewhere},
        {"id": "whk_named", "name": "hookline listen too", "url": here},
        {"id": "whk_below", "name": "hookline listen", "url": f"{here}below"},
    ]
    registry = Registry({"id": "whk_left", "name": "hookline listen", "url": here}, *others)
    with in_a_thread(Receiver(registry)) as server:
        listening = start("--port", str(port), "--url", server.origin, "--key", "k")
        listening.prints("Listening on")
        assert [webhook["id"] for webhook in registry.webhooks] == [
            "whk_elsewhere",
            "whk_named",
            "whk_below",
            "whk_new",
        ]
        listening.process.send_signal(signal.SIGTERM)
        listening.ends_with(0)
        assert registry.webhooks == others


def test_a_tunnel_is_registered_in_its_place(start: Start) -> None:
    registry = Registry()
    with in_a_thread(Receiver(registry)) as server:
        listening = start("--port", "0", "--public-url", "https://t.test/", "--url", server.origin, "--key", "k")
        listening.prints("Listening on")
        assert [webhook["url"] for webhook in registry.webhooks] == ["https://t.test/"]


def test_a_server_that_is_gone_at_the_end_is_told_and_the_end_comes_anyway(start: Start) -> None:
    with in_a_thread(Receiver(Registry())) as server:
        listening = start("--port", "0", "--url", server.origin, "--key", "k")
        listening.prints("Listening on")
    listening.process.send_signal(signal.SIGINT)
    listening.ends_with(0)
    assert "The webhook whk_new could not be removed: nothing answers at" in listening.output


def test_a_refused_registration_ends_it_with_the_reason(start: Start) -> None:
    problem = {"path": ["input", "eventPatterns", "0"], "message": "is no pattern"}
    refused = _data(createWebhook={"code": "VALIDATION_FAILED", "message": "…", "fields": [problem]})
    with in_a_thread(Receiver(_data(webhooks={"nodes": []}), refused)) as server:
        listening = start("--port", "0", "--events", "a..b", "--url", server.origin, "--key", "k")
        listening.ends_with(1)
    assert listening.output == "Error: refused (VALIDATION_FAILED):\n  eventPatterns.0: is no pattern\n"


# ── piece by piece ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_genuine_request_has_no_problem() -> None:
    assert problem_with(_signed(BODY, at=NOW), BODY, SECRET, now=NOW) is None


def test_one_right_signature_among_several_is_enough() -> None:
    headers = _signed(BODY, at=NOW)
    headers["webhook-signature"] = (
        f"{_signed(BODY, at=NOW, secret=OTHER_SECRET)['webhook-signature']} v1a,x " + (headers["webhook-signature"])
    )
    assert problem_with(headers, BODY, SECRET, now=NOW) is None


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_named(name: str) -> None:
    headers = {**_signed(BODY, at=NOW), name: ""}
    assert problem_with(headers, BODY, SECRET, now=NOW) == f"no {name} header"


@pytest.mark.parametrize("changed", ["body", "webhook-id", "webhook-timestamp", "webhook-signature"])
def test_nothing_that_is_signed_can_be_changed(changed: str) -> None:
    headers = _signed(BODY, at=NOW)
    body = BODY + b" " if changed == "body" else BODY
    if changed != "body":
        headers[changed] = {"webhook-id": "msg_9", "webhook-timestamp": "1775044801"}.get(changed, "v1,AAAA")
    assert problem_with(headers, body, SECRET, now=NOW) == "wrong signature: another secret, or changed on the way"


@pytest.mark.parametrize("timestamp", ["soon", "1775044800.5", "-1", "١٢٣", "1" * 30])
def test_a_timestamp_is_whole_seconds(timestamp: str) -> None:
    headers = {**_signed(BODY, at=NOW), "webhook-timestamp": timestamp}
    assert problem_with(headers, BODY, SECRET, now=NOW) == "webhook-timestamp is not in whole seconds since 1970"


@pytest.mark.parametrize(
    ("age", "problem"),
    [
        (timedelta(seconds=300), None),
        (timedelta(seconds=-300), None),
        (timedelta(seconds=301), "its timestamp is 5.02 min old, and 5 min are allowed"),
        (timedelta(seconds=-301), "its timestamp is 5.02 min ahead, and 5 min are allowed"),
    ],
)
def test_a_timestamp_is_good_for_five_minutes_either_way(age: timedelta, problem: str | None) -> None:
    assert problem_with(_signed(BODY, at=NOW - age), BODY, SECRET, now=NOW) == problem


def _plain(body: bytes, **facts: Any) -> list[str]:
    shown = entry(body, **{"message_id": "msg_1", "problem": None, "repeat": False, "now": NOW, **facts})
    return click.unstyle(shown).splitlines()


def test_an_entry_tells_type_id_verdict_and_how_long_it_took_above_the_body() -> None:
    first, *body = _plain(BODY)
    assert first.partition("  ")[2] == "order.paid  msg_1  ✓ verified  after 12 ms"
    assert json.loads("".join(body)) == json.loads(BODY)


@pytest.mark.parametrize(
    ("timestamp", "told"),
    [
        ("2026-04-01T11:59:58.500Z", "  after 1.5 s"),
        ("2026-04-01T09:00:00Z", "  after 3 h"),
        ("2026-04-01T12:00:01Z", "  after 0 ms"),
        ("yesterday", ""),
        ("2026-04-01T12:00:00", ""),
        (1775044800, ""),
        (None, ""),
    ],
)
def test_how_long_it_took_is_told_where_the_body_has_a_timestamp(timestamp: object, told: str) -> None:
    first, *_ = _plain(json.dumps({"type": "a.b", "timestamp": timestamp}).encode())
    assert first.partition("  ")[2] == f"a.b  msg_1  ✓ verified{told}"


@pytest.mark.parametrize("body", [b"", b"hello", b"[1]", b"\xff", b"[" * 100_000, b"null", b'{"type": {"a": 1}}'])
def test_any_body_can_be_shown(body: bytes) -> None:
    assert _plain(body)[0].endswith("  msg_1  ✓ verified")


def test_what_arrives_cannot_steer_the_terminal() -> None:
    body = json.dumps({"type": "a\x1b[2J", "data": "\x9b2J\u202e\x07"}, ensure_ascii=False).encode()
    shown = _plain(body, message_id="\x1b]0;title\x07") + _plain(b"\x1b[2J\r\x00")
    assert not {character for line in shown for character in line} & set("\x1b\x9b\x07\r\x00\u202e")
    assert "\\u001b[2J" in shown[0]


def test_an_entry_is_in_colour_for_a_terminal() -> None:
    coloured = entry(BODY, message_id="msg_1", problem=None, repeat=False, now=NOW)
    assert "\x1b[32m✓ verified\x1b[0m" in coloured
    assert '\x1b[34m"type"\x1b[0m: \x1b[32m"order.paid"\x1b[0m' in coloured
    assert '\x1b[34m"total"\x1b[0m: \x1b[36m42\x1b[0m' in coloured


@pytest.mark.parametrize(("variables", "bold"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals_whose_owner_wants_them(
    tmp_path: Path, variables: dict[str, str], bold: bool
) -> None:
    ours, terminal = os.openpty()
    env = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), **variables}
    command = tethered(sys.executable, "-m", "app", "listen", "--port", "0", "--secret", SECRET)
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    while b"Ctrl-C" not in shown:
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WITHIN_S) == 0
    os.close(ours)
    assert (b"\x1b[1mhttp://127.0.0.1:" in shown) == bold
    assert (b"\x1b" in shown) == bold
