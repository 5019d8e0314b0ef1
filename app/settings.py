"""Settings, from the environment: every name begins with `HOOKLINE_`. Read here alone."""

from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.contracts import CONTRACTS
from models.sealing import read_master_key
from resolvers.caller import Scope

Network = IPv4Network | IPv6Network


class SettingsError(Exception):
    """A setting is missing or wrong. The message names it and says what to do; it never repeats a value."""


Grant = tuple[str | None, tuple[Scope, ...]]
"""A word of an access token's scopes, or None for every token, and what it allows here."""


class Settings(BaseSettings):
    """How this process runs. Each field is the environment variable `HOOKLINE_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="HOOKLINE_", extra="ignore", hide_input_in_errors=True, frozen=True)

    database_url: str = Field(
        description="`postgres://user:password@host:port/name`, or `sqlite://path` for one process."
    )
    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        description="Where wake-ups travel. It may be wiped or away at any time: nothing is kept there.",
    )
    master_key: SecretStr = Field(
        description="Seals signing secrets and header values: the base64 of 32 random bytes "
        "(`openssl rand -base64 32`). Several, separated by commas: the first seals, all open."
    )
    allowed_networks: Annotated[tuple[Network, ...], NoDecode] = Field(
        default=(),
        description="Networks (CIDR, separated by commas) that webhooks may reach though they are not public.",
    )
    allow_http: bool = Field(default=False, description="Whether webhooks may have plain http URLs.")
    max_webhooks: int = Field(default=50, ge=0, description="Webhooks an organization may have that are not DISABLED.")
    max_payload_bytes: int = Field(default=262_144, ge=1, description="The largest event data, in bytes of JSON.")
    max_body_bytes: int = Field(default=8_388_608, ge=1024, description="The largest request body, in bytes.")
    requests_per_second: int = Field(
        default=1000, ge=0, description="What a key may ask of each process, in requests a second; 0: anything."
    )
    request_burst: int = Field(default=2000, ge=1, description="How many of them may come at once.")
    max_waiting_requests: int = Field(
        default=500,
        ge=1,
        description="Requests that may wait for their answers at once, in each process; live streams are not counted.",
    )
    operation_seconds: float = Field(
        default=40,
        gt=0,
        description="How long a GraphQL query or mutation may take, in seconds; testing a webhook waits up to 30.",
    )
    idempotency_hours: int = Field(default=24, ge=1, le=48, description="How long an idempotency key is remembered.")
    failing_limit_hours: float = Field(
        default=120, gt=0, description="A webhook that has only failed for so long is disabled (never deleted)."
    )
    payload_retention_days: int = Field(
        default=90, ge=1, le=3650, description="How long events, and so their data, are kept after they were received."
    )
    attempt_retention_days: int = Field(
        default=90, ge=1, le=3650, description="How long attempts are kept; those of an open delivery stay."
    )
    delivery_retention_days: int = Field(
        default=90,
        ge=1,
        le=3650,
        description="How long deliveries are kept after they ended: not less than both.",
    )
    concurrency: int = Field(default=2048, ge=1, description="Requests in flight at once, in each worker.")
    database_pool: int = Field(default=10, ge=2, description="Database connections of each process.")
    drain_seconds: float = Field(default=35, ge=0, description="How long SIGTERM waits for what is in flight.")
    api_versions: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("2026-04-01",), description="Supported `api_version`s, separated by commas; the first is the default."
    )
    oauth_issuer: str | None = Field(
        default=None,
        description="Whose access tokens (JWT) are accepted as Bearer: the URL in their `iss`, to the letter.",
    )
    oauth_jwks_url: str | None = Field(
        default=None, description="Where its public keys are; by default the issuer and `/.well-known/jwks.json`."
    )
    oauth_audience: str | None = Field(
        default=None, description="What `aud` of its tokens must name. Not looked at unless set."
    )
    oauth_organization_claim: str = Field(
        default="company_id",
        min_length=1,
        description="The claim that names the organization, by its id or its external id.",
    )
    oauth_scopes_claim: str = Field(
        default="scope", min_length=1, description="The claim with the token's scopes: words with blanks, or a list."
    )
    oauth_scopes: Annotated[tuple[Grant, ...] | None, NoDecode] = Field(
        default=None,
        description="What those words allow: `read=webhooks:read, write=webhooks:read webhooks:write`; scopes without "
        "a word are every token's. By default a word that is a scope of ours allows that, `admin` and `platform` "
        "excepted.",
    )
    oauth_contract: str = Field(default="factorial", description="The contract that callers with such tokens speak.")
    contracts_deprecated_since: datetime | None = Field(
        default=None,
        description="Since when the old contracts are deprecated (ISO 8601). Their answers then carry `Deprecation` "
        "(RFC 9745) and a `Link` to what replaces them.",
    )
    contracts_successor: str = Field(default="/graphql", description="What replaces them: where that `Link` leads.")
    staff_domain: str | None = Field(
        default=None,
        description="Factify keys with an e-mail address of this domain may act for any organization that "
        "`X-Factify-Organization-Id` names.",
    )
    trusted_documents: Path | None = Field(
        default=None,
        description="A JSON file with the GraphQL documents that may be run, by the SHA-256 of their text; nothing "
        "else is run then.",
    )
    persisted_queries: bool = Field(
        default=False, description="Whether clients may name a document by its SHA-256 once they have sent it (APQ)."
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins, separated by commas, whose pages may call from a browser as our own may (CORS, and "
        "WebSockets with a session): `https://app.example.com`.",
    )
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @field_validator("allowed_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:  # its message would repeat the value
            raise ValueError("must be networks such as 10.0.0.0/8 or fd00::/8, separated by commas") from None

    @field_validator("api_versions", mode="before")
    @classmethod
    def _split_versions(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _bare_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_is_web_address(origin) and urlsplit(origin).geturl() == _origin_of(origin) for origin in value):
            raise ValueError("must be origins such as https://app.example.com, in lower case, without a path")
        return value

    @field_validator(
        "oauth_issuer",
        "oauth_jwks_url",
        "oauth_audience",
        "staff_domain",
        "contracts_deprecated_since",
        "trusted_documents",
        mode="before",
    )
    @classmethod
    def _set_or_not(cls, value: object) -> object:
        return None if value == "" else value  # as `docker run -e NAME=` says it

    @field_validator("oauth_issuer", "oauth_jwks_url")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and not _is_web_address(value):
            raise ValueError("must be an absolute URL such as https://login.example.com")
        return value

    @field_validator("oauth_scopes", mode="before")
    @classmethod
    def _split_grants(cls, value: object) -> object:
        return _grants_in(value) if isinstance(value, str) else value

    @field_validator("contracts_deprecated_since")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value

    @field_validator("staff_domain")
    @classmethod
    def _bare_domain(cls, value: str | None) -> str | None:
        if value is not None and ("@" in value or "." not in value.strip(".")):
            raise ValueError("must be a domain such as example.com, without @")
        return value.lower() if value else value

    @model_validator(mode="after")
    def _known_contract(self) -> Self:
        if self.oauth_issuer and self.oauth_contract not in CONTRACTS:
            raise ValueError(f"HOOKLINE_OAUTH_CONTRACT: must be one of {', '.join(CONTRACTS)}")
        return self

    @model_validator(mode="after")
    def _keys_by_https(self) -> Self:
        if self.oauth_issuer and not self.allow_http and not self.jwks_url().startswith("https://"):
            raise ValueError("HOOKLINE_OAUTH_JWKS_URL: must use https: whoever can change the keys can be anybody")
        return self

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
        return value.upper()

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if not value.startswith(("postgres://", "postgresql://", "sqlite://")):
            raise ValueError("must begin with postgres:// or sqlite://")
        return value

    @field_validator("master_key")
    @classmethod
    def _usable_master_key(cls, value: SecretStr) -> SecretStr:
        if not _keys_in(value):
            raise ValueError("must not be empty")
        return value

    @field_validator("api_versions")
    @classmethod
    def _some_version(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must name at least one version")
        return value

    @model_validator(mode="after")
    def _deliveries_stay_longest(self) -> Self:
        if self.delivery_retention_days < max(self.payload_retention_days, self.attempt_retention_days):
            raise ValueError(
                "HOOKLINE_DELIVERY_RETENTION_DAYS: must not be less than HOOKLINE_PAYLOAD_RETENTION_DAYS and "
                "HOOKLINE_ATTEMPT_RETENTION_DAYS: an event without its deliveries would look as if it had been missed"
            )
        return self

    def jwks_url(self) -> str:
        """Where the issuer's public keys are."""
        return self.oauth_jwks_url or f"{(self.oauth_issuer or '').rstrip('/')}/.well-known/jwks.json"

    def deprecation_headers(self) -> dict[str, str]:
        """What every answer of an old contract carries besides."""
        since = self.contracts_deprecated_since
        if since is None:
            return {}
        link = f'<{self.contracts_successor}>; rel="successor-version"'
        return {"Deprecation": f"@{int(since.timestamp())}", "Link": link}

    def master_keys(self) -> list[bytes]:
        """The keys, the one that seals first."""
        return _keys_in(self.master_key)


def _keys_in(value: SecretStr) -> list[bytes]:
    return [read_master_key(part) for part in value.get_secret_value().split(",") if part.strip()]


def _is_web_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _grants_in(value: str) -> tuple[Grant, ...]:
    grants: list[Grant] = []
    for entry in filter(None, (part.strip() for part in value.split(","))):
        word, equals, scopes = entry.rpartition("=")
        try:
            allowed = tuple(Scope(scope) for scope in scopes.split())
        except ValueError:
            raise ValueError(f"must allow scopes among {', '.join(Scope)}") from None
        if not allowed or (equals and not word.strip()):
            raise ValueError("must be like `read=webhooks:read, write=webhooks:read webhooks:write`")
        grants.append((word.strip() or None, allowed))
    return tuple(grants)


def read() -> Settings:
    """The settings of the environment. Raises SettingsError with a line for each that is missing or wrong."""
    try:
        return Settings()  # type: ignore[call-arg]  # from the environment
    except ValidationError as error:
        raise SettingsError("\n".join(_line(problem) for problem in error.errors(include_input=False))) from None


def _line(problem: object) -> str:
    location = problem["loc"]  # type: ignore[index]
    if not location:  # of several settings together; the message names them
        return str(problem["msg"].removeprefix("Value error, "))  # type: ignore[index]
    name = "_".join(["HOOKLINE", *(str(part).upper() for part in location[:1])])
    if problem["type"] == "missing":  # type: ignore[index]
        description = Settings.model_fields[str(location[0])].description
        return f"{name} is not set. {description}"
    return f"{name}: {problem['msg'].removeprefix('Value error, ')}"  # type: ignore[index]
