"""Addresses as `host:port`: parsing and writing, IPv6 in brackets."""

from core.errors import InvalidInput

_MAX_PORT = 65535
_MAX_HOST = 253
# gRPC takes `unix:1` for a socket file and `dns:80` for a host called 80: such a host could never be dialled.
_SCHEMES = frozenset({"unix", "unix-abstract", "dns", "ipv4", "ipv6", "vsock", "xds", "google-c2p"})


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
