"""Access tokens of an issuer on loopback: whose are let in, as whom, and every forgery that is not."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from app.asgi import application
from app.key_set import AWAY_PAUSE_MS, LIFETIME_MS, UNKNOWN_KEY_PAUSE_MS
from app.wiring import House
from models.ids import Prefix, encode
from models.organization import Organization
from resolvers import keys, organizations
from resolvers.caller import ORDINARY, Scope
from tests.houses import ManualClock, open_house, stored
from tests.receivers import Answer, Receiver, silence

ISSUER = "https://login.factorial.test"
COMPANY = 17
WHO = "{ viewer { organization { id } scopes apiKey { name prefix scopes contract expiresAt } } }"

Json = Any


@cache
def rsa_key(name: str = "first", bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, bits)


@cache
def ec_key(curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def public(kid: str | None, key: Any, **more: Any) -> Json:
    """A key as a JWKS shows it."""
    writer = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    algorithm: Any = next((a for kind, a in writer.items() if isinstance(key, kind)), OKPAlgorithm)
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), **({"kid": kid} if kid else {}), **more}


def claims(**more: Any) -> Json:
    now = int(time.time())
    return {
        "iss": ISSUER,
        "aud": "hookline",
        "sub": "user-5",
        "company_id": COMPANY,
        "scope": "webhooks:read webhooks:write profile",
        "iat": now,
        "exp": now + 600,
    } | more


def token(key: Any = None, algorithm: str = "RS256", kid: str | None = "rsa", **more: Any) -> str:
    """A token of the issuer, unless told otherwise; a claim that is `...` is left out."""
    said = {name: value for name, value in claims(**more).items() if value is not ...}
    return jwt.encode(said, key or rsa_key(), algorithm, headers={"kid": kid} if kid else None)


def coded(part: Json) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class Door:
    """Hookline beside an issuer."""

    http: httpx.AsyncClient
    house: House
    issuer: Receiver
    clock: ManualClock
    company: Organization
    other: Organization
    keys: list[Json] = field(default_factory=list)

    async def ask(self, token: str, header: str = "Authorization", **headers: str) -> httpx.Response:
        """GET /v1/webhooks with the token."""
        value = f"Bearer {token}" if header == "Authorization" else token
        return await self.http.get("/v1/webhooks", headers={header: value, **headers})

    async def viewer(self, token: str) -> Json:
        response = await self.http.post("/graphql", json={"query": WHO}, headers={"Authorization": f"Bearer {token}"})
        return response.json()["data"]["viewer"]

    async def refusal(self, token: str) -> str:
        """Why the token is refused with 401; fails unless nothing changed and GraphQL says the same."""
        before = await stored()
        response = await self.ask(token)
        assert response.status_code == 401, response.text
        assert response.headers["WWW-Authenticate"] == "Bearer"
        in_graphql = await self.http.post("/graphql", json={"query": WHO}, headers={"Authorization": f"Bearer {token}"})
        assert in_graphql.status_code == 401
        assert await stored() == before
        message: str = response.json()["error"]["message"]
        assert in_graphql.json()["errors"][0]["message"] == message
        return message


Opened = Callable[..., Any]


@pytest.fixture
def opened(database_url: str) -> Opened:
    """Opens a door with settings of its own."""

    @asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[Door]:
        clock, shown = ManualClock(), [public("rsa", rsa_key()), public("ec", ec_key()), public("ed", ed_key())]
        async with Receiver(lambda request: jwks(shown)) as issuer:
            chosen = {
                "oauth_issuer": ISSUER,
                "oauth_jwks_url": f"{issuer.origin}/keys",
                "oauth_audience": "hookline",
                "oauth_contract": "native",
            }
            app = application(lambda: open_house(database_url, clock, **(chosen | settings)), 1_000_000)
            transport = httpx.ASGITransport(app)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url="https://hookline.test") as http,
            ):
                company = await organizations.create_named("Company", str(COMPANY))
                other = await organizations.create_named("Other", "18")
                yield Door(http, app.state.house, issuer, clock, company, other, shown)

    return opened


@pytest.fixture
async def door(opened: Opened) -> AsyncIterator[Door]:
    async with opened() as door:
        yield door


def jwks(shown: list[Json]) -> Answer:
    return Answer(200, [("Content-Type", "application/json")], json.dumps({"keys": shown}).encode())


# ── who is let in ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("algorithm", "kid", "key"), [("RS256", "rsa", rsa_key), ("ES256", "ec", ec_key), ("EdDSA", "ed", ed_key)]
)
async def test_a_token_of_each_algorithm_acts_for_its_company_with_its_scopes(
    door: Door, algorithm: str, kid: str, key: Callable[[], Any]
) -> None:
    shown = token(key(), algorithm, kid)
    viewer = await door.viewer(shown)
    assert viewer["organization"] == {"id": encode(Prefix.ORGANIZATION, door.company.id)}
    assert viewer["scopes"] == ["webhooks:read", "webhooks:write"]
    assert viewer["apiKey"]["name"] == "access token of user-5"
    assert viewer["apiKey"]["scopes"] == ["webhooks:read", "webhooks:write"]
    assert viewer["apiKey"]["contract"] == "native"
    assert viewer["apiKey"]["expiresAt"] is not None
    assert viewer["apiKey"]["prefix"] == shown[:12]


async def test_what_a_token_makes_belongs_to_its_company_alone(door: Door) -> None:
    body = {"url": "https://1.1.1.1/hooks", "events": ["order.created"]}
    made = await door.http.post("/v1/webhooks", json=body, headers={"Authorization": f"Bearer {token()}"})
    assert made.status_code == 201
    assert made.json()["org_id"] == encode(Prefix.ORGANIZATION, door.company.id)
    assert (await door.ask(token(company_id="18"))).json()["data"] == []
    [listed] = (await door.ask(token())).json()["data"]
    assert listed["id"] == made.json()["id"]


async def test_the_organization_may_be_named_by_our_id_or_by_an_external_id_of_text(door: Door) -> None:
    for named in (encode(Prefix.ORGANIZATION, door.other.id), "18", 18):
        viewer = await door.viewer(token(company_id=named))
        assert viewer["organization"] == {"id": encode(Prefix.ORGANIZATION, door.other.id)}


async def test_a_lone_key_serves_tokens_that_name_none(door: Door) -> None:
    assert (await door.ask(token(kid=None))).status_code == 200
    door.keys.append(public("rsa-2", rsa_key("second")))
    door.clock.advance(hours=1)
    assert await door.refusal(token(kid=None)) == "this access token is not valid: the issuer shows no such key"


async def test_an_access_token_is_taken_as_bearer_only(door: Door) -> None:
    assert (await door.ask(token(), "x-api-key")).status_code == 401
    assert (await door.ask(token())).status_code == 200


async def test_an_imported_key_that_looks_like_a_token_is_a_key(door: Door) -> None:
    looks_alike = token(rsa_key("strangers"), exp=1_500_000_000, company_id=COMPANY)
    await keys.import_token(door.other.id, looks_alike, "old", ["webhooks:read"])
    viewer = await door.viewer(looks_alike)
    assert viewer["organization"] == {"id": encode(Prefix.ORGANIZATION, door.other.id)}
    assert (await door.ask(looks_alike, "x-api-key")).status_code == 200
    assert door.issuer.requests == []


async def test_a_revoked_key_does_not_live_on_as_a_token(door: Door) -> None:
    both = token()
    key = await keys.import_token(door.company.id, both, "old", ["*"])
    await keys.revoke_any(encode(Prefix.API_KEY, key.id))
    assert await door.refusal(both) == "this API key is not valid: it is unknown, expired or revoked"


# ── for whom, and what ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("named", ["19", "Company", 0, "\0", "org_01jx5s3k9pe8ratq6y2m4c7v0b"])
async def test_an_organization_that_is_not_known_is_forbidden(door: Door, named: Any) -> None:
    response = await door.ask(token(company_id=named))
    assert response.status_code == 403
    assert response.json()["error"]["message"] == (
        f"the access token names the organization {str(named)!r}, which is not known here"
    )


async def test_a_deleted_organization_is_not_known(door: Door) -> None:
    _, platform = await keys.create_for(door.other.id, "platform", ["platform"])
    caller = await keys.authenticate(door.house.desk, platform)
    assert caller is not None
    await organizations.delete(caller, encode(Prefix.ORGANIZATION, door.company.id))
    assert (await door.ask(token())).status_code == 403


@pytest.mark.parametrize("claim", [..., None, "", True, 1.5, ["17"], {"id": 17}])
async def test_a_token_without_an_organization_is_refused(door: Door, claim: Any) -> None:
    assert await door.refusal(token(company_id=claim)) == (
        "this access token is not valid: it names no organization: "
        "its claim `company_id` must be text or a whole number"
    )


async def test_a_token_acts_for_no_other_organization(door: Door) -> None:
    response = await door.ask(token(), **{"Hookline-Organization": "18"})
    assert (response.status_code, response.json()["error"]["message"]) == (403, "this key lacks the scope platform")


@pytest.mark.parametrize(
    ("claim", "scopes"),
    [
        ("events:publish deliveries:read", ["events:publish", "deliveries:read"]),
        (["events:publish", "deliveries:read"], ["events:publish", "deliveries:read"]),
        ("read write", []),
        ("* admin platform", []),
        ([1, None, {}], []),
        (7, []),
        (..., []),
    ],
)
async def test_words_that_are_scopes_of_ours_count_but_not_admin_and_platform(
    door: Door, claim: Any, scopes: list[str]
) -> None:
    assert (await door.viewer(token(scope=claim)))["scopes"] == scopes


async def test_a_token_without_a_scope_may_do_nothing(door: Door) -> None:
    response = await door.ask(token(scope="profile"))
    assert (response.status_code, response.json()["error"]["message"]) == (
        403,
        "this key lacks the scope webhooks:read",
    )


async def test_the_settings_say_what_an_issuers_words_allow(opened: Opened) -> None:
    grants = ((None, (Scope.EVENTS_READ,)), ("read", (Scope.WEBHOOKS_READ,)), ("write", (Scope.EVERYTHING,)))
    async with opened(oauth_scopes=grants, oauth_scopes_claim="scp", oauth_organization_claim="org") as door:

        async def scopes(words: Any) -> list[str]:
            allowed: list[str] = (await door.viewer(token(scp=words, org="17", company_id=...)))["scopes"]
            return allowed

        assert await scopes("webhooks:write admin") == ["events:read"]
        assert await scopes(["read"]) == ["webhooks:read", "events:read"]
        assert await scopes("write") == [str(scope) for scope in Scope if scope in ORDINARY]


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────────


def with_the_public_key_as_secret(algorithm: str, secret: bytes) -> str:
    """The classic forgery: HMAC, keyed with what everybody knows."""
    signed = f"{coded({'alg': algorithm, 'typ': 'JWT', 'kid': 'rsa'})}.{coded(claims())}"
    return f"{signed}.{coded(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def pem() -> bytes:
    return rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def unsigned(algorithm: str) -> str:
    return f"{coded({'alg': algorithm, 'kid': 'rsa'})}.{coded(claims())}."


def changed(part: int, to: str) -> str:
    parts = token().split(".")
    parts[part] = to
    return ".".join(parts)


def labelled(key: Any, algorithm: str, **header: Any) -> str:
    return jwt.encode(claims(), key, algorithm, headers={"kid": "rsa", **header})


NOT_ACCEPTED = "it must be signed with RS256, ES256, EdDSA"
NO_KEY = "the issuer shows no such key"
FORGED = "it is malformed or forged"
NOW = int(time.time())

FORGERIES: dict[str, tuple[Callable[[], str], str]] = {
    "alg none": (lambda: unsigned("none"), NOT_ACCEPTED),
    "alg None": (lambda: unsigned("None"), NOT_ACCEPTED),
    "alg RS256, unsigned": (lambda: unsigned("RS256"), FORGED),
    "HS256 with the public key": (lambda: with_the_public_key_as_secret("HS256", pem()), NOT_ACCEPTED),
    "RS256, HMAC with the public key": (lambda: with_the_public_key_as_secret("RS256", pem()), FORGED),
    "HS256 with an empty secret": (lambda: with_the_public_key_as_secret("HS256", b""), NOT_ACCEPTED),
    "PS256": (lambda: token(algorithm="PS256"), NOT_ACCEPTED),
    "RS512": (lambda: token(algorithm="RS512"), NOT_ACCEPTED),
    "ES384": (lambda: token(ec_key(ec.SECP384R1), "ES384", "ec"), NOT_ACCEPTED),
    "a stranger's key": (lambda: token(rsa_key("strangers")), FORGED),
    "a stranger's key of an unknown id": (lambda: token(rsa_key("strangers"), kid="other"), NO_KEY),
    "another kind of key under a known id": (lambda: token(ec_key(), "ES256", "rsa"), NO_KEY),
    "a key brought along": (
        lambda: labelled(rsa_key("strangers"), "RS256", jwk=public("rsa", rsa_key("strangers"))),
        FORGED,
    ),
    "a place of keys brought along": (
        lambda: labelled(rsa_key("strangers"), "RS256", jku="http://127.0.0.1:1/", x5u="http://127.0.0.1:1/"),
        FORGED,
    ),
    "an extension that must be understood": (lambda: labelled(rsa_key(), "RS256", crit=["exp2"], exp2=1), FORGED),
    "wrong issuer": (lambda: token(iss="https://login.evil.test"), "its issuer is not the one accepted here"),
    "issuer with a slash": (lambda: token(iss=f"{ISSUER}/"), "its issuer is not the one accepted here"),
    "no issuer": (lambda: token(iss=...), "it lacks a claim among exp, iss and aud"),
    "wrong audience": (lambda: token(aud="somebody"), "it is meant for another audience"),
    "wrong audiences": (lambda: token(aud=["somebody", "else"]), "it is meant for another audience"),
    "no audience": (lambda: token(aud=...), "it lacks a claim among exp, iss and aud"),
    "expired": (lambda: token(exp=NOW - 3600), "it has expired"),
    "no expiry": (lambda: token(exp=...), "it lacks a claim among exp, iss and aud"),
    "expiry in words": (lambda: token(exp="never"), FORGED),
    "expiry beyond all time": (lambda: token(exp=10**30), "its times make no sense"),
    "not yet valid": (lambda: token(nbf=NOW + 3600), "it is not valid yet"),
    "issued in the future": (lambda: token(iat=NOW + 3600), "it is not valid yet"),
    "claims changed": (lambda: changed(1, coded(claims(company_id="18"))), FORGED),
    "signature cut": (lambda: changed(2, token().split(".")[2][:-8]), FORGED),
    "header of endless depth": (lambda: changed(0, coded(b"[" * 6_000)), FORGED),
    "header no object": (lambda: changed(0, coded([])), FORGED),
    "header not JSON": (lambda: changed(0, coded(b"{")), FORGED),
    "header not base64": (lambda: changed(0, "***"), FORGED),
    "claims no object": (lambda: jwt.PyJWS().encode(b"[]", rsa_key(), "RS256", {"kid": "rsa"}), FORGED),
    "kid no text": (lambda: changed(0, coded({"alg": "RS256", "kid": ["rsa"]})), FORGED),
    "alg no text": (lambda: changed(0, coded({"alg": ["RS256"], "kid": "rsa"})), NOT_ACCEPTED),
    "dots alone": (lambda: "..", FORGED),
    "too long": (lambda: token(padding="x" * 16_384), "it is too long"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_or_foreign_token_is_refused(door: Door, forgery: str) -> None:
    forged, reason = FORGERIES[forgery]
    assert await door.refusal(forged()) == f"this access token is not valid: {reason}"
    assert (await door.ask(token())).status_code == 200


async def test_an_ec_key_of_the_issuer_signs_nothing_as_another_algorithm(door: Door) -> None:
    door.keys[:] = [public("rsa", ec_key()), public("rsa", rsa_key(), alg="RS512")]
    assert await door.refusal(token()) == "this access token is not valid: the issuer shows no such key"


@pytest.mark.parametrize(
    "shown",
    [
        {"use": "enc"},
        {"key_ops": ["sign"]},
        {"alg": "RS384"},
        {"kty": "oct", "k": coded(b"secret" * 8)},
        {"n": "AQAB"},
        {"n": 7},
        {"kid": ["rsa"]},
    ],
)
async def test_a_key_that_is_not_for_this_verifies_nothing(door: Door, shown: Json) -> None:
    door.keys[:] = ["no key", {}, public("rsa", rsa_key()) | shown]
    assert await door.refusal(token()) == "this access token is not valid: the issuer shows no such key"


async def test_a_short_rsa_key_verifies_nothing(door: Door) -> None:
    short = rsa_key("short", 1024)
    door.keys[:] = [public("rsa", short)]
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        weak = token(short)
    assert await door.refusal(weak) == "this access token is not valid: the issuer shows no such key"


async def test_the_audience_is_not_looked_at_unless_set(opened: Opened) -> None:
    async with opened(oauth_audience=None) as door:
        for audience in ("somebody", ..., ["a", "b"]):
            assert (await door.ask(token(aud=audience))).status_code == 200


async def test_without_an_issuer_no_token_is_accepted_and_none_is_looked_up(opened: Opened) -> None:
    async with opened(oauth_issuer=None) as door:
        assert await door.refusal(token()) == "this API key is not valid: it is unknown, expired or revoked"
        assert door.issuer.requests == []


# ── the issuer's keys ───────────────────────────────────────────────────────────────────────────────────────────


async def test_keys_are_fetched_once_and_asked_for_politely(door: Door) -> None:
    for _ in range(3):
        assert (await door.ask(token())).status_code == 200
    [request] = door.issuer.requests
    assert (request.method, request.path, request.body) == ("GET", "/keys", b"")
    assert request.header("Authorization") is None
    assert request.header("Accept-Encoding") == "identity"


async def test_requests_at_once_share_one_fetch(door: Door) -> None:
    door.issuer.answers = [Answer(200, body=jwks(door.keys).body, delay=0.05)]
    answers = await asyncio.gather(*(door.ask(token()) for _ in range(10)))
    assert [answer.status_code for answer in answers] == [200] * 10
    assert len(door.issuer.requests) == 1


async def test_a_new_key_works_as_soon_as_the_set_may_be_fetched_again(door: Door) -> None:
    assert (await door.ask(token())).status_code == 200
    door.keys.append(public("rsa-2", rsa_key("second")))
    rotated = token(rsa_key("second"), kid="rsa-2")
    door.clock.advance(milliseconds=UNKNOWN_KEY_PAUSE_MS)
    assert (await door.ask(rotated)).status_code == 200
    assert len(door.issuer.requests) == 2


async def test_unknown_keys_have_the_set_fetched_every_few_seconds_at_most(door: Door) -> None:
    for n in range(5):
        assert await door.refusal(token(rsa_key("strangers"), kid=f"made-up-{n}")) == (
            f"this access token is not valid: {NO_KEY}"
        )
    assert len(door.issuer.requests) == 1
    door.clock.advance(milliseconds=UNKNOWN_KEY_PAUSE_MS - 1)
    await door.refusal(token(rsa_key("strangers"), kid="made-up"))
    assert len(door.issuer.requests) == 1
    door.clock.advance(milliseconds=1)
    await door.refusal(token(rsa_key("strangers"), kid="made-up"))
    assert len(door.issuer.requests) == 2


async def test_a_key_that_is_withdrawn_ends_with_the_sets_lifetime(door: Door) -> None:
    withdrawn = token()
    assert (await door.ask(withdrawn)).status_code == 200
    del door.keys[0]
    door.clock.advance(milliseconds=LIFETIME_MS - 1)
    assert (await door.ask(withdrawn)).status_code == 200
    door.clock.advance(milliseconds=1)
    assert await door.refusal(withdrawn) == f"this access token is not valid: {NO_KEY}"


NO_SETS: dict[str, Any] = {
    "refuses": Answer(503),
    "moved": Answer(302, [("Location", "/elsewhere")]),
    "not JSON": Answer(200, body=b"<html>"),
    "not UTF-8": Answer(200, body=b"\xff\xfe\xff"),
    "no object": Answer(200, body=b"[]"),
    "no list": Answer(200, body=b'{"keys": {}}'),
    "endless depth": Answer(200, body=b"[" * 60_000),
    "too large": Answer(200, body=json.dumps({"keys": [], "more": "x" * 100_000}).encode()),
    "silent": silence,
}


@pytest.mark.parametrize("answer", NO_SETS)
async def test_known_keys_go_on_working_while_the_issuer_has_none_to_show(door: Door, answer: str) -> None:
    assert (await door.ask(token())).status_code == 200
    door.issuer.answers = [NO_SETS[answer]]
    door.clock.advance(days=1)
    for _ in range(3):
        assert (await door.ask(token())).status_code == 200
    assert len(door.issuer.requests) == 2
    door.issuer.answers = [jwks([public("rsa", rsa_key("second"))])]
    door.clock.advance(milliseconds=AWAY_PAUSE_MS)
    assert await door.refusal(token()) == f"this access token is not valid: {FORGED}"
    assert (await door.ask(token(rsa_key("second")))).status_code == 200


async def test_nobody_is_let_in_before_the_issuer_has_shown_its_keys(door: Door) -> None:
    door.issuer.answers = [503]
    assert await door.refusal(token()) == f"this access token is not valid: {NO_KEY}"
    door.issuer.answers = [jwks(door.keys)]
    door.clock.advance(milliseconds=UNKNOWN_KEY_PAUSE_MS)
    assert (await door.ask(token())).status_code == 200


async def test_keys_are_not_fetched_from_where_deliveries_may_not_go(opened: Opened) -> None:
    async with opened(allowed_networks=()) as door:
        assert await door.refusal(token()) == f"this access token is not valid: {NO_KEY}"
        assert (door.issuer.requests, door.issuer.connections) == ([], 0)


async def test_a_caller_who_leaves_does_not_end_the_fetch_for_the_others(door: Door) -> None:
    assert door.house.access_tokens is not None
    door.issuer.answers = [Answer(200, body=jwks(door.keys).body, delay=0.05)]
    leaving = asyncio.create_task(door.house.access_tokens.read(token()))
    await door.issuer.wait_for(1)
    staying = asyncio.create_task(door.house.access_tokens.read(token()))
    leaving.cancel()
    assert (await staying).organization == "17"
    assert len(door.issuer.requests) == 1
    assert leaving.cancelled() or leaving.done()


async def test_an_access_token_is_not_exchanged_for_a_session(door: Door) -> None:
    """It would outlive itself."""
    response = await door.http.post("/session", headers={"Authorization": f"Bearer {token()}"})
    assert (response.status_code, "set-cookie" in response.headers) == (403, False)
