"""No address that leads inside is called, in whatever form it comes."""

import socket

import pytest

from records import addresses
from records.addresses import check_url, is_public, resolve
from records.errors import Invalid
from records.settings import WebhookSettings

STRICT = WebhookSettings()
INSIDE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.100.100.200", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:169.254.169.254", "::127.0.0.1", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b:1::a9fe:a9fe", "2002:7f00:1::",
    "2001:0:7f00:1::", "2001:db8::1", "::ffff:0:127.0.0.1", "not an address", "",
]  # fmt: skip
OUTSIDE = ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "2a00:1450:4001::200e"]


@pytest.mark.parametrize("address", INSIDE)
def test_what_leads_inside_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_what_is_outside_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "file:///etc/passwd", "example.com", "", "https://", "https:///x",
        "https://user@example.com/", "https://user:word@example.com/", "https://example.com/#x", "https://[::1]/",
        "https://localhost/", "https://a.localhost/", "https://redis:6379/", "https://127.0.0.1/",
        "https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://0177.0.0.1/",
        "https://017700000001/", "https://0/", "https://169.254.169.254/latest/meta-data", "https://[::ffff:10.0.0.1]/",
        "https://2852039166/", "https://[fd00::1]/", "https://exa mple.com/", "https://ex\u00e4mple.com/",
        "https://example.com:0/", "https://example.com:99999/", "https://-a.example/", "https://a_b.example/",
        "https://example.com\\@127.0.0.1/", "https://example.com/\r\nX: y", "https://" + "a." * 1500 + "com/",
        "https://[::1%25eth0]/", "https://[::1", "https://10.0.0.1./",
    ],
)  # fmt: skip
def test_a_url_that_must_not_be_called_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_url(url, STRICT, "/url")
    assert [error.pointer for error in refused.value.errors] == ["/url"]
    assert url[:20] not in str(refused.value) or len(url) < 9


@pytest.mark.parametrize("url", ["https://example.com", "https://hooks.example.com:8443/a/b?c=d", "https://8.8.8.8/x"])
def test_a_public_url_is_taken(url: str) -> None:
    check_url(url, STRICT, "/url")


def test_the_operator_may_allow_more() -> None:
    check_url("http://redis:6379/", WebhookSettings(webhook_allow_http=True, webhook_allow_private=True), "/url")
    with pytest.raises(Invalid):
        check_url("http://10.0.0.1/", WebhookSettings(webhook_allow_private=True), "/url")


def answering(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 443)) for one in found]
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *_, **__: entries)


def test_a_name_is_refused_if_any_of_its_addresses_leads_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "8.8.8.8", "10.0.0.1")
    with pytest.raises(Invalid):
        resolve("hooks.example.com", 443, STRICT)
    answering(monkeypatch, "8.8.8.8")
    assert resolve("hooks.example.com", 443, STRICT) == "8.8.8.8"


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1"])
def test_what_the_resolver_makes_of_a_form_is_judged_too(host: str) -> None:
    with pytest.raises(Invalid):
        resolve(host, 443, STRICT)
