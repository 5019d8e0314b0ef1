"""`hookline deliveries replay`: what it asks for and shows. The journeys try it against a whole Hookline."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli import hookline
from tests.receivers import Answer, Received, Receiver, in_a_thread

REPLAY_ID = "rpl_01h2xcejqtf2nbrexx3vqjhp41"
WEBHOOK_ID = "whk_01h2xcejqtf2nbrexx3vqjhp41"

Run = Callable[..., Result]


def _replay(status: str, total: int = 0, succeeded: int = 0, failed: int = 0) -> dict[str, Any]:
    ended = status in ("COMPLETED", "CANCELED")
    return {
        "id": REPLAY_ID,
        "status": status,
        "total": total,
        "enqueued": total,
        "succeeded": succeeded,
        "failed": failed,
        "completedAt": "2026-11-21T00:00:00Z" if ended else None,
    }


class Server(Receiver):
    """Answers as a Hookline: to each look with the next of `stages`."""

    def __init__(self, *stages: dict[str, Any]) -> None:
        super().__init__(self._told)
        self.stages = list(stages)
        self.refusal: dict[str, Any] | None = None
        self.looks = 0
        self.interrupts_at: int | None = None
        """The look at which somebody presses Ctrl-C."""

    def _told(self, request: Received) -> Answer:
        query = json.loads(request.body)["query"]
        if "replayDeliveries" in query:
            return _data({"replayDeliveries": self.refusal or {"replay": self.stages[0]}})
        if "cancelReplay" in query:
            return _data({"cancelReplay": {"replay": _replay("CANCELED", 9, 4)}})
        self.looks += 1
        if self.looks == self.interrupts_at:
            os.kill(os.getpid(), signal.SIGINT)
        return _data({"replay": self.stages[min(self.looks, len(self.stages) - 1)]})


def _data(data: dict[str, Any]) -> Answer:
    return Answer(200, body=json.dumps({"data": data}).encode())


@pytest.fixture
def server() -> Iterator[Server]:
    stages = [_replay("QUEUED"), _replay("RUNNING", 3, 1), _replay("COMPLETED", 3, 2, 1)]
    with in_a_thread(Server(*stages)) as server:
        assert isinstance(server, Server)
        yield server


@pytest.fixture
def run(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        asked = ["deliveries", "replay", "--webhook", WEBHOOK_ID, *arguments, "--url", server.origin, "--key", "k"]
        return CliRunner().invoke(hookline, asked)

    return run


def _input(server: Server) -> Any:
    return json.loads(server.requests[0].body)["variables"]["input"]


@pytest.mark.parametrize(
    ("arguments", "selection"),
    [
        (
            ["--failed", "--since", "2026-01-31T12:00:00Z"],
            {"failed": {"since": "2026-01-31T12:00:00+00:00", "until": None}},
        ),
        (
            ["--missing", "--since", "2026-01-31T12:00:00", "--until", "2026-02-01"],
            {"missing": {"since": "2026-01-31T12:00:00+00:00", "until": "2026-02-01T00:00:00+00:00"}},
        ),
        (["--event", "evt_1", "--event", "evt_2"], {"eventIds": ["evt_1", "evt_2"]}),
        (["--delivery", "dlv_1"], {"deliveryIds": ["dlv_1"]}),
    ],
)
def test_what_is_asked_for_is_one_of_the_four(
    run: Run, server: Server, arguments: list[str], selection: dict[str, Any]
) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (0, f"{REPLAY_ID}\n2 delivered, 1 failed, of 3\n")
    assert _input(server) == {"webhookId": WEBHOOK_ID, "select": selection}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give one of --failed, --missing, --event and --delivery"),
        (["--failed", "--missing", "--since", "2026-01-31"], "give one of"),
        (["--failed", "--event", "evt_1", "--since", "2026-01-31"], "give one of"),
        (["--missing"], "give --since"),
        (["--event", "evt_1", "--until", "2026-01-31"], "--since and --until belong to --failed and --missing"),
    ],
)
def test_what_makes_no_sense_is_not_asked_for(run: Run, server: Server, arguments: list[str], complaint: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert server.requests == []


def test_without_waiting_it_only_asks(run: Run, server: Server) -> None:
    result = run("--event", "evt_1", "--no-wait")
    assert (result.exit_code, result.stdout, len(server.requests)) == (0, f"{REPLAY_ID}\n", 1)


def test_a_refusal_is_told_in_its_own_words(run: Run, server: Server) -> None:
    server.refusal = {"code": "WEBHOOK_NOT_ENABLED", "message": "the webhook is PAUSED; enable it first"}
    result = run("--event", "evt_1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: refused (WEBHOOK_NOT_ENABLED): the webhook is PAUSED; enable it first\n"


def test_a_replay_that_somebody_canceled_ends_with_1(run: Run, server: Server) -> None:
    server.stages = [_replay("RUNNING", 9), _replay("CANCELED", 9, 4)]
    result = run("--event", "evt_1")
    assert result.exit_code == 1
    assert "Error: the replay was canceled, with 4 delivered, 0 failed, of 9" in result.stderr


@pytest.mark.parametrize(
    ("options", "told", "asked"),
    [
        ([], "The replay goes on without us.", False),
        (["--cancel-on-interrupt"], "Canceled, with 4 delivered, 0 failed, of 9.", True),
    ],
)
def test_ctrl_c_leaves_it_running_unless_told_to_cancel(
    run: Run, server: Server, options: list[str], told: str, asked: bool
) -> None:
    server.stages = [_replay("RUNNING", 9)]
    server.interrupts_at = 2
    result = run("--event", "evt_1", *options)
    assert result.exit_code == 130
    assert told in result.stderr
    assert any(b"cancelReplay" in request.body for request in server.requests) is asked
