"""Addresses as `host:port`: parsing and writing, IPv6 in brackets, and which of them no peer may name to others."""

import ipaddress
import socket
from functools import lru_cache
from urllib.parse import unquote

from core.errors import InvalidInput

# Most addresses of one machine that are told to others, who try them one after the other.
MOST_ADDRESSES = 16
# Every call to a peer looks at the same few addresses again.
_REMEMBERED = 1024
_MAX_PORT = 65535
_MAX_HOST = 253
# gRPC takes `unix:1` for a socket file and `dns:80` for a host called 80: such a host could never be dialled.
_SCHEMES = frozenset({"unix", "unix-abstract", "dns", "ipv4", "ipv6", "vsock", "xds", "google-c2p"})
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_BROADCAST = ipaddress.ip_address("255.255.255.255")

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(_REMEMBERED)
def split_address(text: str, field: str = "address") -> tuple[str, int]:
    """Returns host and port of `host:port`; IPv6 hosts stand in brackets, which are removed.

    Raises:
        InvalidInput: it is not of that form, or the port is not within 0 and 65535.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    odd = not host or len(host) > _MAX_HOST or not host.isprintable() or any(char in host for char in " /[]@,")
    if not colon or odd or (":" in host and not bracketed):
        raise InvalidInput(field, f"{text!r} is not HOST:PORT (an IPv6 host stands in brackets)")
    if host.lower() in _SCHEMES:
        raise InvalidInput(field, f"{host!r} is a word of gRPC's own, not a host: use the address in numbers")
    if not (port.isascii() and port.isdigit()) or int(port) > _MAX_PORT:
        raise InvalidInput(field, f"{text!r} has no port within 0 and {_MAX_PORT}")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """Returns `host:port`, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(_REMEMBERED)
def numeric(host: str) -> Ip | None:
    """Returns the address that `host` spells in numbers, without its zone, or None when it is a name.

    Resolvers take more spellings than people write: `127.1`, `0x7f000001`, `2130706433`, digits of full width, a dot at
    the end. An IPv4 address inside an IPv6 one (`::ffff:127.0.0.1`) is the IPv4 address, since it leads there.
    """
    plain = _plain(host)
    try:
        found = ipaddress.ip_address(plain.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(plain))
        except (OSError, ValueError):
            return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _plain(host: str) -> str:
    """Returns what resolvers make of a host."""
    try:
        return host.encode("idna").decode().rstrip(".")
    except UnicodeError:  # no resolver takes it
        return host


@lru_cache(_REMEMBERED)
def is_loopback(host: str) -> bool:
    """Tells whether `host` is the machine that dials it, as far as that can be told without looking up a name."""
    found = numeric(host)
    if found is None:
        name = _plain(host).lower()
        return name == "localhost" or name.endswith(".localhost")
    return found.is_loopback


def leads_astray(host: str) -> bool:
    """Tells whether `host` leads each machine to itself or to its own link, and so never to the peer that names it.

    Such are loopback, unspecified, multicast, broadcast and link-local addresses, and `localhost`. A peer that named
    one to others could make them knock at their own programs, or at a cloud's metadata service. Other names have to be
    looked up first, and what is found is to be asked again.
    """
    if is_loopback(host):
        return True
    found = numeric(host)
    return found is not None and (
        found.is_unspecified
        or found.is_multicast
        or found.is_link_local
        or found == _BROADCAST
        or (found.version == 4 and found in _THIS_NETWORK)
    )


def network_of(address: str) -> str:
    """Returns what stands for the host of `host:port`; of IPv6 its /64, all of which one machine usually has."""
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    if found.version == 4:
        return host
    mapped = found.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((found, 64), strict=False))


def observed(peer: str) -> str:
    """Returns the `host:port` in what gRPC calls a caller (`ipv4:…`, `ipv6:%5B…%5D:…`); empty for a Unix socket."""
    kind, _, address = unquote(peer).partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return ""
    return join_address(*split_address(address))
