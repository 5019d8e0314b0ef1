"""Which addresses a delivery may reach: plain rules, no I/O.

A customer chooses where deliveries go, so a delivery must not reach what only *we* can reach: this machine, its
network, a cloud's metadata service. `ipaddress.is_global` is not enough: on Python 3.11 it lets NAT64, 6to4 and
IPv4-compatible addresses through, each of which carries an IPv4 address inside. The table below is drawn from the
IANA special-purpose address registries instead (iana-ipv4-special-registry, iana-ipv6-special-registry), with the
multicast and never-allocated space added; all of it is refused, globally reachable or not.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple


class SpecialRange(NamedTuple):
    """A range that deliveries may not reach."""

    network: IPv4Network | IPv6Network
    kind: str
    """What an address in it is, with its article: "a loopback address"."""
    source: str
    """Where that is laid down."""


def _table(*rows: tuple[str, str, str]) -> tuple[SpecialRange, ...]:
    return tuple(SpecialRange(ip_network(cidr), kind, source) for cidr, kind, source in rows)


# The first row that holds an address names it, so the narrower row stands first.
SPECIAL_RANGES_V4 = _table(
    ("0.0.0.0/8", "an unspecified address", "RFC 791 §3.2"),
    ("10.0.0.0/8", "a private address", "RFC 1918"),
    ("100.100.100.200/32", "a cloud metadata address", "Alibaba Cloud"),
    ("100.64.0.0/10", "a carrier-grade NAT address", "RFC 6598"),
    ("127.0.0.0/8", "a loopback address", "RFC 1122 §3.2.1.3"),
    ("168.63.129.16/32", "a cloud metadata address", "Azure WireServer; a public number answered by the host"),
    ("169.254.169.254/32", "a cloud metadata address", "AWS, Azure, Google Cloud, OpenStack and others"),
    ("169.254.0.0/16", "a link-local address", "RFC 3927"),
    ("172.16.0.0/12", "a private address", "RFC 1918"),
    ("192.0.0.0/24", "a protocol assignment", "RFC 6890 §2.1"),
    ("192.0.2.0/24", "a documentation address", "RFC 5737"),
    ("192.31.196.0/24", "an AS112 sink address", "RFC 7535"),
    ("192.52.193.0/24", "a multicast tunnelling address", "RFC 7450"),
    ("192.88.99.0/24", "a 6to4 relay address", "RFC 7526"),
    ("192.168.0.0/16", "a private address", "RFC 1918"),
    ("192.175.48.0/24", "an AS112 sink address", "RFC 7534"),
    ("198.18.0.0/15", "a benchmarking address", "RFC 2544"),
    ("198.51.100.0/24", "a documentation address", "RFC 5737"),
    ("203.0.113.0/24", "a documentation address", "RFC 5737"),
    ("224.0.0.0/4", "a multicast address", "RFC 5771"),
    ("255.255.255.255/32", "the broadcast address", "RFC 919"),
    ("240.0.0.0/4", "a reserved address", "RFC 1112 §4"),
)
SPECIAL_RANGES_V6 = _table(
    ("::1/128", "a loopback address", "RFC 4291 §2.5.3"),
    ("::/128", "an unspecified address", "RFC 4291 §2.5.2"),
    ("::/96", "an IPv4-compatible address", "RFC 4291 §2.5.5.1"),
    ("::ffff:0:0/96", "an IPv4-mapped address", "RFC 4291 §2.5.5.2; unmapped before it gets here"),
    ("::ffff:0:0:0/96", "an IPv4-translated address", "RFC 2765 §2.1"),
    ("64:ff9b::/96", "a NAT64 address", "RFC 6052"),
    ("64:ff9b:1::/48", "a NAT64 address", "RFC 8215"),
    ("100::/64", "a discard-only address", "RFC 6666"),
    ("100:0:0:1::/64", "a dummy address", "RFC 9780"),
    ("2001::/32", "a Teredo address", "RFC 4380"),
    ("2001:2::/48", "a benchmarking address", "RFC 5180"),
    ("2001::/23", "a protocol assignment", "RFC 2928"),
    ("2001:db8::/32", "a documentation address", "RFC 3849"),
    ("2002::/16", "a 6to4 address", "RFC 3056"),
    ("2620:4f:8000::/48", "an AS112 sink address", "RFC 7534"),
    ("3fff::/20", "a documentation address", "RFC 9637"),
    ("5f00::/16", "a segment routing identifier", "RFC 9602"),
    ("fd00:ec2::254/128", "a cloud metadata address", "AWS"),
    ("fd20:ce::254/128", "a cloud metadata address", "Google Cloud"),
    ("fc00::/7", "a private address", "RFC 4193"),
    ("fe80::/10", "a link-local address", "RFC 4291 §2.5.6"),
    ("fec0::/10", "a site-local address", "RFC 3879"),
    ("ff00::/8", "a multicast address", "RFC 4291 §2.7"),
    # Unicast is handed out of 2000::/3 alone (IANA, "IPv6 Global Unicast Address Assignments").
    ("::/3", "a reserved address", "RFC 4291 §4"),
    ("4000::/2", "a reserved address", "RFC 4291 §4"),
    ("8000::/1", "a reserved address", "RFC 4291 §4"),
)


def plain_address(ip: str) -> IPv4Address | IPv6Address:
    """The address itself, an IPv4-mapped one as the IPv4 address a connection to it would reach.

    Raises ValueError for anything but one literal address.
    """
    address = ip_address(ip)
    return getattr(address, "ipv4_mapped", None) or address


class AddressGuard:
    """Refuses special-purpose addresses, but for the ranges its operator opened.

    `allowed_networks` opens ranges whatever they are for; an IPv4-mapped address is judged by its IPv4 address. The
    guard never changes, so its judgements are remembered (the 4,096 latest).
    """

    def __init__(self, allowed_networks: Iterable[IPv4Network | IPv6Network] = ()) -> None:
        self.allowed_networks = tuple(allowed_networks)
        self._judged = lru_cache(maxsize=4096)(self._judge)

    def kind_refused(self, ip: str) -> str | None:
        """What makes `ip` unreachable for deliveries ("a loopback address"), or None when it may be reached."""
        return self._judged(ip)

    def refusal(self, ip: str) -> str | None:
        """One line saying why `ip` may not be reached ("127.0.0.1 is a loopback address"), or None when it may."""
        kind = self._judged(ip)
        return None if kind is None else f"{ip} is {kind}"

    def _judge(self, ip: str) -> str | None:
        try:
            address = plain_address(ip)
        except ValueError:
            return "not an IP address"
        if getattr(address, "scope_id", None) is not None:
            return "an address with a zone, which means something on one machine only"
        if any(address in network for network in self.allowed_networks):
            return None
        special_ranges = SPECIAL_RANGES_V4 if address.version == 4 else SPECIAL_RANGES_V6
        return next((special.kind for special in special_ranges if address in special.network), None)
