"""TLS for servers and channels: 1.3 only, both sides named by their certificates."""

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from core import TLS_1_3_ONLY


@dataclass(frozen=True, slots=True)
class Material:
    """What one side of a connection shows, and what it accepts; all in PEM.

    Attributes:
        key: its private key.
        chain: its own certificate first, then those that lead to older authorities.
        authorities: whose certificates it accepts.
    """

    key: bytes
    chain: bytes
    authorities: bytes

    def __repr__(self) -> str:
        return "Material(…)"


def server_credentials(material: Callable[[], Material], *, mutual: bool = True) -> grpc.ServerCredentials:
    """Returns credentials that ask for the material at every handshake, so that renewals need no restart.

    With `mutual`, a client without a certificate of the authorities fails in the handshake. `material` is called in a
    thread of gRPC's; it returns at once.
    """
    _check_version()

    def configuration() -> grpc.ServerCertificateConfiguration:
        now = material()
        return grpc.ssl_server_certificate_configuration([(now.key, now.chain)], root_certificates=now.authorities)

    return grpc.dynamic_ssl_server_credentials(configuration(), configuration, require_client_authentication=mutual)


def channel_credentials(material: Material) -> grpc.ChannelCredentials:
    """Returns credentials that show the material; an empty key shows none, which only Enrolment accepts."""
    _check_version()
    return grpc.ssl_channel_credentials(material.authorities, material.key or None, material.chain or None)


def expecting(name: str) -> tuple[tuple[str, str], ...]:
    """Returns the options of a channel on which only the holder of a certificate of that name passes the handshake."""
    return (("grpc.ssl_target_name_override", name), ("grpc.default_authority", name))


def _check_version() -> None:
    if not TLS_1_3_ONLY:
        raise RuntimeError("grpc was imported before core, and would speak TLS 1.2: import core first")
