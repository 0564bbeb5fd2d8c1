"""TLS for servers and channels: 1.3 only, both sides named by their certificates."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from core import TLS_1_3_ONLY

# Makes the credentials of one bound address.
ServerCredentials = Callable[[], grpc.ServerCredentials]


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


def server_credentials(material: Callable[[], Material], *, mutual: bool = True) -> ServerCredentials:
    """Returns what makes credentials that ask for the material at every handshake: renewals need no restart.

    With `mutual`, a client without a certificate of the authorities fails in the handshake. `material` is called in a
    thread of gRPC's; it returns at once. Each bound address takes credentials of its own.
    """
    _check_version()

    def made() -> grpc.ServerCredentials:
        first = material()
        changes: Any = _Changes(material, first)  # the stub lacks None, for no change
        return grpc.dynamic_ssl_server_credentials(_configuration(first), changes, require_client_authentication=mutual)

    return made


class _Changes:
    """Tells gRPC at each handshake what the material has become, and nothing while it is as before.

    gRPC frees what it held when it is told something, also while a handshake in another thread uses that. So who tells
    it at every handshake is brought down by anybody who opens a hundred connections at once
    (https://github.com/grpc/grpc/issues/36693).
    """

    def __init__(self, material: Callable[[], Material], first: Material) -> None:
        self._material = material
        self._told = first
        self._one_at_a_time = threading.Lock()

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        with self._one_at_a_time:
            now = self._material()
            if now == self._told:
                return None
            self._told = now
        return _configuration(now)


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.chain)], root_certificates=material.authorities
    )


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
