"""TLS for servers and channels: 1.3 only, both sides named by their certificates."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import grpc

# gRPC has no option for the version of TLS. Offering for 1.2 only a suite that the ECDSA keys here cannot use leaves
# 1.3, as tests/core/test_tls.py proves. Read by the C core when the first credentials are made.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES128-GCM-SHA256"


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

    def configuration() -> grpc.ServerCertificateConfiguration:
        now = material()
        return grpc.ssl_server_certificate_configuration(
            [(now.key, now.chain)], root_certificates=now.authorities if mutual else None
        )

    return grpc.dynamic_ssl_server_credentials(configuration(), configuration, require_client_authentication=mutual)


def channel_credentials(material: Material) -> grpc.ChannelCredentials:
    """Returns credentials that show the material; an empty key shows none, which only Enrolment accepts."""
    return grpc.ssl_channel_credentials(material.authorities, material.key or None, material.chain or None)


def expecting(name: str) -> tuple[tuple[str, str], ...]:
    """Returns the options of a channel on which only the holder of a certificate of that name passes the handshake."""
    return (("grpc.ssl_target_name_override", name), ("grpc.default_authority", name))
