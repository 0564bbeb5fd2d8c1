"""Addresses to advertise, found from the routes."""

import ipaddress

import ifaddr

from core import reachable
from core.addresses import split_address
from core.reachable import advertised


def test_a_central_on_loopback_is_told_loopback_only():
    assert advertised("0.0.0.0", 4000, ["127.0.0.1:7400"]) == ("127.0.0.1:4000",)
    assert advertised("::", 4000, ["[::1]:7400"]) == ("[::1]:4000",)


def test_a_particular_host_is_advertised_as_it_is():
    assert advertised("192.0.2.7", 4000, ["127.0.0.1:7400"]) == ("192.0.2.7:4000",)
    assert advertised("fd00::7", 4000, []) == ("[fd00::7]:4000",)


def test_what_the_user_says_beats_what_was_found():
    assert advertised("0.0.0.0", 4000, ["127.0.0.1:7400"], "files.example") == ("files.example:4000",)
    assert advertised("0.0.0.0", 4000, [], "files.example:99") == ("files.example:99",)
    assert advertised("::", 4000, [], "fd00::9") == ("[fd00::9]:4000",)
    assert advertised("::", 4000, [], "[fd00::9]") == ("[fd00::9]:4000",)


def test_without_any_route_the_interfaces_are_asked(monkeypatch):
    own = [ifaddr.IP(host, 24, "lab") for host in ("127.0.0.1", "169.254.7.7", "10.77.0.5", ("fd00::5", 0, 0))]
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: [ifaddr.Adapter("lab0", "lab0", own)])
    monkeypatch.setattr(reachable, "_ANYWHERE", ())
    assert advertised("::", 4000, []) == ("10.77.0.5:4000", "[fd00::5]:4000")
    assert advertised("0.0.0.0", 4000, []) == ("10.77.0.5:4000",)


def test_there_is_always_an_address_and_each_can_be_parsed():
    found = advertised("::", 4000, ["no-such-host.invalid:7400"])
    assert found
    for address in found:
        host, port = split_address(address)
        assert port == 4000
        assert not ipaddress.ip_address(host).is_unspecified
