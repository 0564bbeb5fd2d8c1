"""Where a server listens: `[::]` is every interface, and plaintext stays on this machine unless told otherwise."""

from typing import TYPE_CHECKING

from core.addresses import is_loopback, join_address, split_address
from core.errors import InvalidInput, NotPossible

if TYPE_CHECKING:
    from core.rpc import Server


def bind(server: "Server", address: str) -> str:
    """Binds `address` and returns the host that it is bound to; `[::]` falls back to IPv4 where IPv6 is missing.

    Raises:
        InvalidInput: it is not `host:port`.
        NotPossible: it cannot be bound.
    """
    host, port = split_address(address, "listen")
    try:
        server.listen(address)
    except NotPossible:
        if host != "::":
            raise
        host = "0.0.0.0"
        server.listen(join_address(host, port))
    return host


def check_plaintext(address: str) -> None:
    """Checks that plaintext on `address` is heard by this machine only.

    Raises:
        InvalidInput: other machines could reach it.
    """
    host, _ = split_address(address, "listen")
    if not is_loopback(host):
        raise InvalidInput(
            "listen",
            f"plaintext on {address} lets everybody in who reaches it: listen on 127.0.0.1, leave --insecure out, "
            "or add --insecure-anywhere",
        )
