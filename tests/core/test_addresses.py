import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.addresses import is_loopback, join_address, leads_astray, network_of, numeric, split_address
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


ASTRAY = [
    *["127.0.0.1", "127.1", "127.255.255.254", "0x7f000001", "0X7F.1", "2130706433", "0177.0.0.1", "017700000001"],
    *["127.0.0.1.", "１２７.0.0.1", "127。0。0。1", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "0:0:0:0:0:0:0:1"],
    *["localhost", "LOCALHOST", "localhost.", "a.localhost", "ｌocalhost"],
    *["0.0.0.0", "0", "0.1.2.3", "::", "::ffff:0.0.0.0"],
    *["169.254.169.254", "169.254.1", "0xa9fea9fe", "2852039166", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0"],
    *["febf::1%1", "224.0.0.1", "239.255.255.255", "ff02::1", "ff02::1%eth0", "255.255.255.255"],
]
ELSEWHERE = [
    *["192.168.1.5", "10.0.0.1", "172.16.0.1", "100.64.0.1", "8.8.8.8", "0x08080808", "::ffff:10.0.0.1", "fd00::7"],
    *[
        "2001:db8::1",
        "lab-3",
        "año.example",
        "localhost.example",
        "notlocalhost",
        "central.example.org",
        "h" * 240,
        "1.2.3.4.5",
    ],
]


@pytest.mark.parametrize("host", ASTRAY)
def test_an_address_that_leads_whoever_dials_it_to_itself_is_known_in_every_spelling(host):
    assert leads_astray(host)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_other_hosts_may_be_named_to_others(host):
    assert not leads_astray(host)
    assert not is_loopback(host)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_the_same_in_all_its_spellings(ip):
    number = int(ip)
    spellings = [
        str(ip),
        f"{ip}.",
        str(number),
        hex(number),
        f"::ffff:{ip}",
        ".".join(f"0{part:o}" for part in ip.packed),
    ]
    assert {numeric(spelling) for spelling in spellings} == {ip}
    assert len({leads_astray(spelling) for spelling in spellings}) == 1


@given(st.text(max_size=40))
def test_no_text_breaks_the_judgement_of_hosts(text):
    leads_astray(text)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("192.0.2.1:5", "192.0.2.1"),
        ("[2001:db8:1:2:3:4:5:6]:5", "2001:db8:1:2::/64"),
        ("[fe80::1%eth0]:5", "fe80::/64"),
        ("[::ffff:192.0.2.1]:5", "192.0.2.1"),
        ("", ""),
    ],
)
def test_an_ipv6_host_is_its_network_of_64_bits(address, host):
    assert network_of(address) == host
