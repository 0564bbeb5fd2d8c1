"""What central's commands share: the network of a data directory, whether central serves or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import NotPossible

if TYPE_CHECKING:
    from central.network.enrolment import Enrolment


@contextmanager
def network_of(data: Path) -> "Iterator[Enrolment]":
    """Gives the network in `data`.

    Raises:
        NotPossible: there is none yet, or it cannot be used.
    """
    from central.network.enrolment import Enrolment  # noqa: PLC0415 - cryptography is slow to import

    network = Enrolment.open(data)
    try:
        yield network
    finally:
        network.close()


def address_of(network: "Enrolment") -> tuple[str, int]:
    """Returns where central listens or last did, as `host:port`, and the port of Enrolment.

    Raises:
        NotPossible: it never has.
    """
    address, port = network.register.address()
    if not port:
        raise NotPossible(f"central has not served from {network.data} yet; start `relevo-central serve` once")
    return address, port
