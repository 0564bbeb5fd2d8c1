"""The addresses at which this machine can be reached, found at run time from its routes."""

import ipaddress
import socket
from collections.abc import Iterable, Iterator

import ifaddr

from core.addresses import join_address, split_address

# Documentation addresses (RFC 5737, RFC 3849): nobody has them, so the route to them is the default route.
_ANYWHERE = (("192.0.2.1", 9), ("2001:db8::1", 9))
# Of a machine with very many interfaces; a login takes 16.
_MOST_OWN = 8


def advertised(bound_host: str, port: int, centrals: Iterable[str], override: str = "") -> tuple[str, ...]:
    """Returns `host:port` addresses for others to try in this order; at least one.

    Args:
        bound_host: the host that the server listens on; a particular one is the answer, a wildcard (`0.0.0.0`, `::`)
            asks the routes: the one to a central first, then the default routes, IPv4 and IPv6; on a network without
            a way out there is none, and the addresses of all interfaces are the answer.
        port: the port that the server listens on.
        centrals: `host:port` of the centrals, in order.
        override: what the user says others should dial: a host, or `host:port`; beats everything.
    """
    if override:
        return (_overridden(override, port),)
    if bound_host not in {"0.0.0.0", "::", ""}:
        return (join_address(bound_host, port),)
    families = {socket.AF_INET} if bound_host == "0.0.0.0" else {socket.AF_INET, socket.AF_INET6}
    to_central = [host for central in centrals for host in _sources(*split_address(central), families)]
    if to_central and ipaddress.ip_address(to_central[0]).is_loopback:
        # A central on loopback is only reached from this machine, and so are its peers.
        return tuple(join_address(host, port) for host in dict.fromkeys(to_central) if _is_loopback(host))
    elsewhere = [host for target in _ANYWHERE for host in _sources(*target, families)]
    found = [host for host in dict.fromkeys(to_central + elsewhere) if not _is_loopback(host)]
    return tuple(join_address(host, port) for host in found or _own(families) or ["127.0.0.1"])


def _own(families: set[socket.AddressFamily]) -> list[str]:
    """Returns the addresses of this machine's interfaces that others can dial, IPv4 first."""
    adapters = ifaddr.get_adapters()
    hosts = [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for adapter in adapters for ip in adapter.ips]
    known = sorted(map(ipaddress.ip_address, hosts), key=lambda host: host.version)
    kinds = {4: socket.AF_INET, 6: socket.AF_INET6}
    return [
        str(host) for host in known if kinds[host.version] in families and not (host.is_loopback or host.is_link_local)
    ][:_MOST_OWN]


def _overridden(override: str, port: int) -> str:
    host = override.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return override if ":" in override else join_address(override, port)
    return join_address(host, port)


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


def _sources(host: str, port: int, families: set[socket.AddressFamily]) -> Iterator[str]:
    """Yields this machine's source addresses on the route to a host. Connecting a UDP socket sends nothing."""
    try:
        targets = socket.getaddrinfo(host, port or 9, type=socket.SOCK_DGRAM)
    except OSError:
        return
    for family, kind, protocol, _, address in targets:
        if family not in families:
            continue
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(address)
                source = probe.getsockname()[0]
        except OSError:
            continue
        # A link-local address means nothing without its interface.
        if not ipaddress.ip_address(source.partition("%")[0]).is_link_local:
            yield source
