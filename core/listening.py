"""Where a server listens: `[::]` is every interface, IPv6 or not."""

from core.addresses import join_address, split_address
from core.errors import NotPossible
from core.rpc import Server


def bind(server: Server, address: str) -> str:
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
