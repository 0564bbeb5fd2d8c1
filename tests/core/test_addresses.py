import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.addresses import join_address, split_address
from core.errors import InvalidInput

GOOD = {
    "127.0.0.1:7400": ("127.0.0.1", 7400),
    "0.0.0.0:0": ("0.0.0.0", 0),
    "[::1]:7400": ("::1", 7400),
    "[::]:65535": ("::", 65535),
    "[fe80::1%eth0]:1": ("fe80::1%eth0", 1),
    "central.example.org:7400": ("central.example.org", 7400),
    "lab-3:80": ("lab-3", 80),
    "año.example:80": ("año.example", 80),
}
BAD = [
    *["", ":", ":80", "host", "host:", "host:port", "host:-1", "host:65536", "host:99999999999", "host:+1", "host: 80"],
    *["host:8 0", "host:１", "host:²", "ho st:80", "::1:80", "fe80::1:80", "[]:80", "[::1]", "[::1:80", "::1]:80"],
    *["[[::1]]:80", "http://host:80", "host/path:80", "user@host:80", "a,b:80", "a\x00b:80", "a\x1b[31m:80", "a\n:80"],
    *[
        "a\u202eb:80",
        "a" * 254 + ":80",
        "unix:1",
        "UNIX:1",
        "[unix]:1",
        "dns:80",
        "unix-abstract:1",
        "ipv4:80",
        "xds:1",
    ],
]


@pytest.mark.parametrize("text", GOOD)
def test_an_address_is_host_and_port_with_ipv6_in_brackets(text):
    assert split_address(text) == GOOD[text]
    assert join_address(*GOOD[text]) == text


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_what_is_no_address_is_refused_by_its_field(text):
    with pytest.raises(InvalidInput) as caught:
        split_address(text, "addresses")
    assert caught.value.field == "addresses"
    assert "\x1b" not in str(caught.value)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_ip_address_survives(ip, port):
    assert split_address(join_address(str(ip), port)) == (str(ip), port)


@given(st.text(max_size=40))
def test_no_text_breaks_the_parser(text):
    try:
        host, port = split_address(text)
    except InvalidInput:
        return
    assert host
    assert 0 <= port <= 65535
    assert split_address(join_address(host, port)) == (host, port)
