"""Addresses that a caller names and we then call: none of them may lead back inside.

A URL is looked at when it is given, and every address its host resolves to when it is called: what is resolved once is
what is connected to, so a name that answers differently the second time gains nothing.
"""

import ipaddress
import re
import socket
from urllib.parse import urlsplit

from records.errors import Invalid, invalid_field
from records.settings import WebhookSettings

MOST_CHARACTERS = 2048
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_ODD_V4 = tuple(ipaddress.ip_network(one) for one in ("192.0.0.0/24", "192.88.99.0/24"))
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_CARRIERS = tuple(ipaddress.ip_network(one) for one in ("2001::/23", "2002::/16", "2001:db8::/32", "3fff::/20"))


def check_url(url: str, settings: WebhookSettings, pointer: str) -> None:
    """Raises Invalid about `pointer` unless the URL may be called, as far as its text tells."""
    problem = _problem(url, settings)
    if problem is not None:
        raise invalid_field(pointer, problem)


def resolve(host: str, port: int, settings: WebhookSettings) -> str:
    """One address of the host, as a literal. Raises Invalid if any of its addresses leads inside, OSError if none is.

    Decimal, octal and hexadecimal forms of IPv4 are addresses like any other to the resolver, and so end up here.
    """
    found = [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not found:
        raise OSError("no address")
    if not settings.webhook_allow_private and not all(is_public(one) for one in found):
        raise Invalid("The host's address is not a public one.")
    return found[0]


def is_public(address: str) -> bool:
    """Whether the address is on the public Internet: not this host, its networks, their neighbours or their metadata,
    and not an IPv6 address that carries an IPv4 one."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # with a zone (fe80::1%eth0), or no address at all
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return found.is_global and not found.is_multicast and not any(found in network for network in _ODD_V4)
    return found in _GLOBAL_V6 and found.is_global and not any(found in network for network in _CARRIERS)


def _problem(url: str, settings: WebhookSettings) -> str | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "This is not a URL. Give one like https://example.com/hooks."
    if len(url) > MOST_CHARACTERS or not url.isascii() or not url.isprintable() or " " in url:
        return f"Give a URL of at most {MOST_CHARACTERS} printable ASCII characters."
    if parts.scheme != "https" and not (parts.scheme == "http" and settings.webhook_allow_http):
        return "Give an https:// URL."
    if parts.username is not None or parts.password is not None or parts.fragment or port == 0:
        return "Give a URL without user, password and fragment; deliveries are signed instead."
    literal = _literal(host)
    if literal is None and not _HOST.fullmatch(host):
        return "The URL names no host that could be called."
    if settings.webhook_allow_private:
        return None
    if (literal and not is_public(literal)) or (literal is None and "." not in host) or host.endswith(".localhost"):
        return "The URL leads into a private network. Give the address of a public host."
    return None


def _literal(host: str) -> str | None:
    """The address that the host is, in whatever form: 127.0.0.1, 2130706433, 0x7f.1, ::1; None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None
