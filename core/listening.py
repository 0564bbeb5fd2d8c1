"""Where a server listens: `[::]` is every interface, and plaintext stays on this machine unless told otherwise."""

from typing import TYPE_CHECKING

from core.addresses import join_address, numeric, split_address
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


def check_plaintext(address: str, *, insecure: bool, anywhere: bool) -> None:
    """Checks that what is served in plaintext on `address` is heard by this machine only.

    Args:
        address: where to listen.
        insecure: whether to serve in plaintext at all.
        anywhere: whether other machines may hear it.

    Raises:
        InvalidInput: other machines could reach it, or `anywhere` allows what nobody does.
    """
    if not insecure:
        if anywhere:
            raise InvalidInput(
                "insecure_anywhere", "--insecure-anywhere only allows more to --insecure: give both, or neither"
            )
        return
    if not anywhere and not _stays_here(address):
        raise InvalidInput(
            "listen",
            f"plaintext on {address} lets everybody in who reaches it: listen on 127.0.0.1, leave --insecure out, "
            "or add --insecure-anywhere",
        )


def _stays_here(address: str) -> bool:
    """Tells whether only this machine can reach `address`; of names only of `localhost`, since others may lead away."""
    host, _ = split_address(address, "listen")
    found = numeric(host)
    return host == "localhost" if found is None else found.is_loopback
