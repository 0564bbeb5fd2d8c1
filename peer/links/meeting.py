"""Finds out which member of the network is at an address that the user gave without an id."""

import asyncio
import ssl
from collections.abc import Callable

from core.addresses import split_address
from core.certificates import Kind, certificate_of, to_pem
from core.errors import InvalidInput, Unreachable
from core.tls import Material

# How long a handshake may take, in seconds.
TIMEOUT = 3.0


class Meeting:
    """Asks for the certificate at an address: whoever shows one of the network's is who it names.

    The calls that follow expect exactly that member, so that another one at the address is noticed.
    """

    def __init__(self, material: Callable[[], Material] | None) -> None:
        """`material` tells whose certificates are accepted; None in plaintext, where nobody has a name."""
        self._material = material
        self._met: dict[str, str] = {}

    async def who_is_at(self, address: str) -> str:
        """Returns the id of the peer at `host:port`; empty in plaintext.

        Raises:
            Unreachable: nobody answers there, or who does is no peer of this network.
        """
        if self._material is None:
            return ""
        if address not in self._met:
            self._met[address] = await _peer_at(address, self._material().authorities)
        return self._met[address]

    def forget(self, address: str) -> None:
        """Has the next question about an address asked anew: another peer may be there."""
        self._met.pop(address, None)


async def _peer_at(address: str, authorities: bytes) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # it is asked for its name; that it is a member's is checked
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=authorities.decode("ascii"))
    host, port = split_address(address)
    try:
        async with asyncio.timeout(TIMEOUT):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, ssl.SSLError) as error:  # TimeoutError is an OSError
        raise Unreachable(f"no member of this network answers at {address}") from error
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    try:
        subject = certificate_of(to_pem([shown])).subject
    except InvalidInput as error:
        raise Unreachable(f"who answers at {address} is no member of this network") from error
    if subject.kind is not Kind.PEER:
        raise Unreachable(f"at {address} is no peer, but {subject.name}; name it with --central")
    return subject.label
