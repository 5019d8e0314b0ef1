"""What may be reached, drawn row by row from the IANA special-purpose address registries."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network

import httpx
import pytest

from tests.receivers import ScriptedResolver
from workers.address_guard import SPECIAL_RANGES_V4, SPECIAL_RANGES_V6, AddressGuard
from workers.delivery_errors import BlockedAddress, NameNotResolved
from workers.resolver import SystemResolver, registration_refusal, vetted_addresses

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.215.14",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.88.98.255",
    "192.167.255.255",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2000::1",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "3ffe:ffff::1",
    "::ffff:8.8.8.8",
]

# Every row of both registries (IANA, as of 2025-10), its first and last address, and the space that is not unicast.
IANA_V4 = [
    ("0.0.0.0/8", "an unspecified address"),
    ("0.0.0.0/32", "an unspecified address"),
    ("10.0.0.0/8", "a private address"),
    ("100.64.0.0/10", "a carrier-grade NAT address"),
    ("127.0.0.0/8", "a loopback address"),
    ("169.254.0.0/16", "a link-local address"),
    ("172.16.0.0/12", "a private address"),
    ("192.0.0.0/24", "a protocol assignment"),
    ("192.0.0.0/29", "a protocol assignment"),
    ("192.0.0.8/32", "a protocol assignment"),
    ("192.0.0.9/32", "a protocol assignment"),
    ("192.0.0.10/32", "a protocol assignment"),
    ("192.0.0.170/31", "a protocol assignment"),
    ("192.0.2.0/24", "a documentation address"),
    ("192.31.196.0/24", "an AS112 sink address"),
    ("192.52.193.0/24", "a multicast tunnelling address"),
    ("192.88.99.0/24", "a 6to4 relay address"),
    ("192.88.99.2/32", "a 6to4 relay address"),
    ("192.168.0.0/16", "a private address"),
    ("192.175.48.0/24", "an AS112 sink address"),
    ("198.18.0.0/15", "a benchmarking address"),
    ("198.51.100.0/24", "a documentation address"),
    ("203.0.113.0/24", "a documentation address"),
    ("224.0.0.0/4", "a multicast address"),
    ("240.0.0.0/5", "a reserved address"),
    ("255.255.255.255/32", "the broadcast address"),
]
IANA_V6 = [
    ("::1/128", "a loopback address"),
    ("::/128", "an unspecified address"),
    ("64:ff9b::/96", "a NAT64 address"),
    ("64:ff9b:1::/48", "a NAT64 address"),
    ("100::/64", "a discard-only address"),
    ("100:0:0:1::/64", "a dummy address"),
    ("2001::/32", "a Teredo address"),
    ("2001:1::1/128", "a protocol assignment"),
    ("2001:1::2/128", "a protocol assignment"),
    ("2001:1::3/128", "a protocol assignment"),
    ("2001:2::/48", "a benchmarking address"),
    ("2001:3::/32", "a protocol assignment"),
    ("2001:4:112::/48", "a protocol assignment"),
    ("2001:10::/28", "a protocol assignment"),
    ("2001:20::/28", "a protocol assignment"),
    ("2001:30::/28", "a protocol assignment"),
    ("2001:db8::/32", "a documentation address"),
    ("2002::/16", "a 6to4 address"),
    ("2620:4f:8000::/48", "an AS112 sink address"),
    ("3fff::/20", "a documentation address"),
    ("5f00::/16", "a segment routing identifier"),
    ("fc00::/7", "a private address"),
    ("fe80::/10", "a link-local address"),
    ("fec0::/10", "a site-local address"),
    ("ff00::/8", "a multicast address"),
    ("::ffff:0:0:0/96", "an IPv4-translated address"),
    ("::2/128", "an IPv4-compatible address"),
    ("::127.0.0.1/128", "an IPv4-compatible address"),
    ("0200::/7", "a reserved address"),
    ("4000::/3", "a reserved address"),
    ("8000::/3", "a reserved address"),
    ("e000::/4", "a reserved address"),
]


@pytest.mark.parametrize(("network", "kind"), IANA_V4 + IANA_V6)
def test_the_first_and_the_last_address_of_every_special_range_are_refused(network: str, kind: str) -> None:
    first, last = (str(ip_network(network)[end]) for end in (0, -1))

    assert AddressGuard().refusal(first) == f"{first} is {kind}"
    assert AddressGuard().refusal(last) == f"{last} is {kind}"


@pytest.mark.parametrize("ip", PUBLIC)
def test_a_public_address_is_let_through(ip: str) -> None:
    assert AddressGuard().refusal(ip) is None


@pytest.mark.parametrize(
    "ip",
    ["169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254", "::ffff:169.254.169.254"],
)
def test_the_metadata_service_of_a_cloud_is_named_as_such(ip: str) -> None:
    assert AddressGuard().refusal(ip) == f"{ip} is a cloud metadata address"


@pytest.mark.parametrize(
    ("ip", "kind"),
    [
        ("::ffff:127.0.0.1", "a loopback address"),
        ("::ffff:7f00:1", "a loopback address"),
        ("::ffff:10.1.2.3", "a private address"),
        ("0:0:0:0:0:ffff:a9fe:a9fe", "a cloud metadata address"),
        ("64:ff9b::127.0.0.1", "a NAT64 address"),
        ("2002:7f00:1::", "a 6to4 address"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "a Teredo address"),
        ("::10.0.0.1", "an IPv4-compatible address"),
    ],
)
def test_an_ipv4_address_inside_an_ipv6_address_is_found(ip: str, kind: str) -> None:
    assert AddressGuard().refusal(ip) == f"{ip} is {kind}"


@pytest.mark.parametrize("ip", ["fe80::1%eth0", "2606:4700:4700::1111%1"])
def test_an_address_with_a_zone_is_refused_even_in_an_allowed_network(ip: str) -> None:
    guard = AddressGuard([ip_network("::/0")])

    assert guard.refusal(ip) == f"{ip} is an address with a zone, which means something on one machine only"


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0177.0.0.1", "2130706433", "127.0.0.1/8", " 8.8.8.8"])
def test_what_is_not_one_literal_address_is_refused(text: str) -> None:
    assert AddressGuard().refusal(text) == f"{text} is not an IP address"


def test_an_allowed_network_opens_itself_and_nothing_beside_it() -> None:
    guard = AddressGuard([ip_network("127.0.0.0/8"), ip_network("fd12::/16")])

    assert guard.refusal("127.0.0.1") is None
    assert guard.refusal("::ffff:127.0.0.1") is None
    assert guard.refusal("fd12::1") is None
    assert guard.refusal("10.0.0.1") == "10.0.0.1 is a private address"
    assert guard.refusal("fd13::1") == "fd13::1 is a private address"
    assert guard.refusal("::1") == "::1 is a loopback address"


def test_every_special_range_has_its_source() -> None:
    assert [special.network for special in SPECIAL_RANGES_V4 + SPECIAL_RANGES_V6 if not special.source] == []


@pytest.fixture
def system_resolver() -> Iterator[SystemResolver]:
    resolver = SystemResolver()
    yield resolver
    resolver.close()


# What the system makes of these, getaddrinfo decides and the guard judges.
SPELLINGS_OF_LOOPBACK = [
    "127.0.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "127.1",
    "127.0.1",
    "127.000.000.001",
    "localhost",
    "LOCALHOST",
]


@pytest.mark.parametrize("host", SPELLINGS_OF_LOOPBACK)
async def test_no_spelling_of_loopback_is_let_through(host: str, system_resolver: SystemResolver) -> None:
    verb = "is" if host == "127.0.0.1" else "resolves to"

    refusal = await registration_refusal(host, 443, system_resolver, AddressGuard())

    assert refusal == f"{host} {verb} a loopback address, which deliveries may not reach"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://127.0.0.1/", "a loopback address"),
        ("https://user:password@127.0.0.1/", "a loopback address"),
        ("https://hooks.example.com@127.0.0.1/", "a loopback address"),
        ("https://hooks.example.com:443@127.0.0.1:80/", "a loopback address"),
        ("https://[::1]/", "a loopback address"),
        ("https://[::ffff:127.0.0.1]/", "a loopback address"),
        ("https://[::]/", "an unspecified address"),
        ("https://0/", "an unspecified address"),
        ("https://0.0.0.0/", "an unspecified address"),
        ("https://0xa9fea9fe/", "a cloud metadata address"),
        ("https://2852039166/", "a cloud metadata address"),
        ("https://0251.16689662/", "a cloud metadata address"),
        ("https://10.1/", "a private address"),
        ("https://127。0。0。1/", "a loopback address"),
        ("https://LOCALHOST/", "a loopback address"),
    ],
)
async def test_no_trick_in_a_url_hides_where_it_leads(url: str, kind: str, system_resolver: SystemResolver) -> None:
    host = httpx.URL(url).raw_host.decode()

    refusal = await registration_refusal(host, 443, system_resolver, AddressGuard())

    assert refusal is not None
    assert f" {kind}, which deliveries may not reach" in refusal


async def test_digits_of_another_script_are_read_as_the_digits_they_are(system_resolver: SystemResolver) -> None:
    with pytest.raises(httpx.InvalidURL):
        httpx.URL("https://１２７.０.０.１/")

    # Nor do they help where a host is not taken from a URL.
    refusal = await registration_refusal("１２７.０.０.１", 443, system_resolver, AddressGuard())
    assert refusal == "１２７.０.０.１ resolves to a loopback address, which deliveries may not reach"


async def test_a_name_that_resolves_to_a_mix_is_refused_whole() -> None:
    resolver = ScriptedResolver({"mixed.test": [["93.184.215.14", "2606:2800::1", "10.0.0.7"]]})

    with pytest.raises(BlockedAddress) as caught:
        await vetted_addresses("mixed.test", 443, resolver, AddressGuard())

    assert str(caught.value) == "mixed.test resolves to a private address, which deliveries may not reach"


async def test_the_families_alternate_and_ipv4_is_dialed_first() -> None:
    answers = ["2606::1", "2606::2", "2606::3", "1.1.1.1", "1.1.1.2", "2606::1", "::ffff:1.1.1.1"]
    resolver = ScriptedResolver({"both.test": [answers]})

    addresses = await vetted_addresses("both.test", 443, resolver, AddressGuard())

    assert addresses == ["1.1.1.1", "2606::1", "1.1.1.2", "2606::2", "2606::3"]


async def test_a_literal_address_is_not_looked_up() -> None:
    resolver = ScriptedResolver({})

    assert await vetted_addresses("::ffff:1.1.1.1", 443, resolver, AddressGuard()) == ["1.1.1.1"]
    assert resolver.questions == []


async def test_a_name_that_does_not_resolve_today_may_be_registered() -> None:
    assert await registration_refusal("tomorrow.test", 443, ScriptedResolver({}), AddressGuard()) is None


async def test_a_resolver_without_an_answer_says_so() -> None:
    class Empty:
        async def resolve(self, host: str, port: int) -> Sequence[str]:
            return []

    with pytest.raises(NameNotResolved) as caught:
        await vetted_addresses("nowhere.test", 443, Empty(), AddressGuard())

    assert str(caught.value) == "nowhere.test did not resolve"


@pytest.mark.parametrize("host", ["no-such-name.invalid", "a..b", "x" * 64 + ".test", "nul\0.test", ""])
async def test_a_host_that_is_no_name_does_not_resolve(host: str, system_resolver: SystemResolver) -> None:
    with pytest.raises(NameNotResolved) as caught:
        await system_resolver.resolve(host, 443)

    assert str(caught.value) == f"{host} did not resolve"


async def test_equal_look_ups_share_one_and_its_answer_is_remembered(system_resolver: SystemResolver) -> None:
    answers = await asyncio.gather(*(system_resolver.resolve("127.1", 443) for _ in range(50)))
    again = await system_resolver.resolve("127.1", 80)

    assert set(map(tuple, answers)) == {("127.0.0.1",)}
    assert again is answers[0]  # the very same answer, and so the very same look-up


async def test_an_answer_is_forgotten_after_its_time() -> None:
    resolver = SystemResolver(remember=0)
    try:
        first = await resolver.resolve("127.1", 443)
        second = await resolver.resolve("127.1", 443)
    finally:
        resolver.close()

    assert second is not first
    assert second == first


async def test_no_more_answers_are_remembered_than_allowed() -> None:
    resolver = SystemResolver(most=2)
    try:
        first = await resolver.resolve("127.1", 443)
        for other in ("127.2", "127.3"):
            await resolver.resolve(other, 443)
        again = await resolver.resolve("127.1", 443)
    finally:
        resolver.close()

    assert again is not first
    assert again == first


async def test_more_names_than_threads_are_all_looked_up() -> None:
    resolver = SystemResolver(threads=2, most=10)
    try:
        answers = await asyncio.gather(*(resolver.resolve(f"127.{number}", 443) for number in range(1, 41)))
    finally:
        resolver.close()

    assert [list(answer) for answer in answers] == [[str(ip_address(0x7F000000 + number))] for number in range(1, 41)]


async def test_a_caller_who_gives_up_does_not_end_the_look_up_for_the_others(system_resolver: SystemResolver) -> None:
    impatient = asyncio.ensure_future(system_resolver.resolve("127.2", 443))
    patient = asyncio.ensure_future(system_resolver.resolve("127.2", 443))
    await asyncio.sleep(0)
    impatient.cancel()

    assert list(await patient) == ["127.0.0.2"]
    assert impatient.cancelled()


def test_the_system_reads_short_and_octal_spellings_as_the_guard_expects() -> None:
    """The premise of the tests above: these are names to Python and addresses to the system."""
    assert socket.getaddrinfo("0177.1", None, type=socket.SOCK_STREAM)[0][4][0] == "127.0.0.1"
