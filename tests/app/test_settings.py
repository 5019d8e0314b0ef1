"""Settings come from the environment; what is wrong is named, and what was given is never repeated."""

import base64
from ipaddress import ip_network

import pytest

from app.settings import Settings, SettingsError, read

KEY, OTHER = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
LEAST = {"HOOKLINE_DATABASE_URL": "sqlite:///data/hookline.db", "HOOKLINE_MASTER_KEY": KEY}
MARK = "hunter2"
SHORT = base64.b64encode(MARK.encode()).decode()
NETWORKS = "must be networks such as 10.0.0.0/8 or fd00::/8, separated by commas"


def settings(environment: pytest.MonkeyPatch, **given: str) -> Settings:
    for name, value in (LEAST | {f"HOOKLINE_{name}": value for name, value in given.items()}).items():
        environment.setenv(name, value)
    return read()


def test_two_settings_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(monkeypatch)
    assert found.database_url == "sqlite:///data/hookline.db"
    assert found.redis_url == "redis://127.0.0.1:6379/0"
    assert found.master_keys() == [bytes([1]) * 32]
    assert (found.allowed_networks, found.allow_http) == ((), False)
    assert (found.max_webhooks, found.idempotency_hours, found.failing_limit_hours) == (50, 24, 120)
    assert found.api_versions == ("2026-04-01",)


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(
        monkeypatch,
        ALLOWED_NETWORKS=" 10.0.0.0/8, fd00::/8,127.0.0.1 ,",
        API_VERSIONS="2026-05-01, 2026-04-01",
        MASTER_KEY=f"{KEY}, {OTHER}",
        ALLOW_HTTP="true",
        LOG_LEVEL="debug",
    )
    assert found.allowed_networks == tuple(map(ip_network, ("10.0.0.0/8", "fd00::/8", "127.0.0.1/32")))
    assert found.api_versions == ("2026-05-01", "2026-04-01")
    assert found.master_keys() == [bytes([1]) * 32, bytes([2]) * 32]
    assert (found.allow_http, found.log_level) == (True, "DEBUG")


def test_deliveries_are_not_forgotten_before_their_events_and_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    days = settings(monkeypatch, PAYLOAD_RETENTION_DAYS="30", ATTEMPT_RETENTION_DAYS="7", DELIVERY_RETENTION_DAYS="30")
    assert (days.payload_retention_days, days.attempt_retention_days, days.delivery_retention_days) == (30, 7, 30)
    for longer in ("PAYLOAD_RETENTION_DAYS", "ATTEMPT_RETENTION_DAYS"):
        with pytest.raises(SettingsError, match="HOOKLINE_DELIVERY_RETENTION_DAYS: must not be less than"):
            settings(monkeypatch, **{longer: "31"})
        settings(monkeypatch, **{longer: "30"})


def test_secrets_are_not_shown_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert KEY not in repr(settings(monkeypatch))


@pytest.mark.parametrize("name", LEAST)
def test_a_setting_that_is_missing_is_named_and_explained(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for other in LEAST:
        monkeypatch.setenv(other, LEAST[other])
    monkeypatch.delenv(name)
    with pytest.raises(SettingsError) as refused:
        read()
    assert str(refused.value).startswith(f"{name} is not set. ")
    assert len(str(refused.value)) > 60


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DATABASE_URL", f"mysql://root:{MARK}@db", "must begin with postgres:// or sqlite://"),
        ("DATABASE_URL", "", "must begin with postgres:// or sqlite://"),
        ("MASTER_KEY", MARK, "a master key is the base64 of 32 bytes; this is not base64"),
        ("MASTER_KEY", SHORT, "a master key is the base64 of 32 bytes; this one has 7"),
        ("MASTER_KEY", f"{KEY},{MARK}", "a master key is the base64 of 32 bytes; this is not base64"),
        ("MASTER_KEY", f"{MARK}ü", "a master key is the base64 of 32 bytes; this is not base64"),
        ("MASTER_KEY", " , ", "must not be empty"),
        ("ALLOWED_NETWORKS", f"10.0.0.0/8,{MARK}", NETWORKS),
        ("ALLOWED_NETWORKS", "10.0.0.1/8", NETWORKS),
        ("API_VERSIONS", ",", "must name at least one version"),
        ("LOG_LEVEL", MARK, "must be DEBUG, INFO, WARNING or ERROR"),
        ("ALLOW_HTTP", MARK, None),
        ("MAX_WEBHOOKS", MARK, None),
        ("MAX_WEBHOOKS", "-1", None),
        ("IDEMPOTENCY_HOURS", "49", None),
        ("IDEMPOTENCY_HOURS", "0", None),
        ("FAILING_LIMIT_HOURS", "0", None),
        ("CONCURRENCY", "0", None),
        ("DATABASE_POOL", "1", None),
        ("DRAIN_SECONDS", "-1", None),
        ("MAX_BODY_BYTES", "1023", None),
    ],
)
def test_a_setting_that_is_wrong_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str | None
) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(monkeypatch, **{name: value})
    told = str(refused.value)
    assert told.startswith(f"HOOKLINE_{name}: ")
    assert message is None or told == f"HOOKLINE_{name}: {message}"
    assert "\n" not in told
    for repeated in (MARK, SHORT, KEY):
        assert repeated not in told
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ is True


def test_all_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(monkeypatch, DATABASE_URL="x", MASTER_KEY="x", MAX_WEBHOOKS="x")
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == [
        "HOOKLINE_DATABASE_URL", "HOOKLINE_MASTER_KEY", "HOOKLINE_MAX_WEBHOOKS",
    ]  # fmt: skip
