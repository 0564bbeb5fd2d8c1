"""Servers and channels: the options that both programs use, health checking, reflection, and the allocator.

docs/decisions/0002-grpc-options.md says why each option is what it is.
"""

import asyncio
import ctypes
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION_V1ALPHA

from core.access import PLAINTEXT, WayIn
from core.answers import strict
from core.crowding import Crowd
from core.errors import NotPossible
from core.health import Health
from core.limits import Limits
from core.requests import Requests
from core.status import StatusInterceptor
from core.tls import Material, ServerCredentials, channel_credentials, expecting

log = logging.getLogger("relevo.rpc")

KIB = 1024
MIB = 1024 * KIB
CENTRAL_MESSAGE = 1 * MIB
PEER_MESSAGE = 2 * MIB
# Blocks go one way only. What a peer is asked with is small, but for the set of blocks that a download lacks.
PEER_REQUEST = 320 * KIB
# But for this: a peer that nobody can dial delivers what it gives.
DELIVER = "/relevo.v1.PeerRelay/Deliver"
PEER_DELIVERY = 1 * MIB + 64 * KIB
# On the Unix socket between a daemon and its own user: pages with long paths and many sources.
CONTROL_MESSAGE = 16 * MIB
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
# gRPC says that it has stopped before its calls have ended, of which a thread of its own tells the loop; a program that
# ends between has them cancelled by asyncio, for which gRPC prints a traceback. Two turns of the loop were seen, and
# more on a busy machine. Calls of other servers in this loop look the same, so that the wait is short.
_CALL = "_schedule_rpc_coro"
_LAST_TURNS, _LAST_PAUSES = 10, 30
# gRPC's number of milliseconds for a time that does not end.
_NEVER = (1 << 31) - 1

_SERVER = (
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)
_CLIENT = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_http_proxy", 0),
)
# Whoever has to be back within seconds does not wait for the backoff of a channel. A handshake may take as long as it
# does with a thousand others at once.
_SOON = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 5_000,
    "grpc.max_reconnect_backoff_ms": 500,
}


def _sizes(received: int, sent: int) -> tuple[tuple[str, int], ...]:
    return (("grpc.max_receive_message_length", received), ("grpc.max_send_message_length", sent))


def _limits(limits: Limits) -> tuple[tuple[str, int], ...]:
    return (
        ("grpc.max_allowed_incoming_connections", limits.connections),
        ("grpc.server_handshake_timeout_ms", round(limits.handshake * 1000)),
        # The limits of metadata count from when the client has acknowledged the settings that tell them.
        ("grpc.http2.settings_timeout", round(limits.handshake * 1000)),
        ("grpc.max_connection_idle_ms", round(min(limits.idle * 1000, _NEVER))),
        ("grpc.max_concurrent_streams", limits.streams),
        ("grpc.server.max_pending_requests", limits.pending),
        ("grpc.server.max_pending_requests_hard_limit", 2 * limits.pending),
        ("grpc.absolute_max_metadata_size", limits.metadata),
        ("grpc.http2.min_ping_interval_without_data_ms", round(limits.ping_interval * 1000)),
    )


def open_channel(
    address: str,
    max_message: int = PEER_MESSAGE,
    material: Material | None = None,
    name: str = "",
    *,
    back_soon: bool = False,
    alone: bool = False,
) -> grpc.aio.Channel:
    """Returns a channel to `host:port` or `unix:path`; it connects by itself and again after a loss.

    One that is `alone` shares no connection with others: so whether it connects says that it can be connected to now.

    With `material` it speaks TLS, and only the holder of a certificate of that `name` passes the handshake; without, it
    speaks in plaintext. A call that is answered with bytes which are no message fails with DATA_LOSS. With `back_soon`
    it tries to connect every half second, else ever more rarely, down to every 5 s.
    """
    chosen = {**dict(_CLIENT), **(_SOON if back_soon else {}), "grpc.use_local_subchannel_pool": int(alone)}
    options = [*chosen.items(), *_sizes(max_message, max_message)]
    if material is None:
        return strict(grpc.aio.insecure_channel(address, options=options))
    credentials = channel_credentials(material)
    return strict(grpc.aio.secure_channel(address, credentials, options=[*options, *expecting(name)]))


class Server:
    """A gRPC server with health checking, reflection (v1 and v1alpha), the access rules and the error table.

    Attributes:
        server: the grpc.aio server, for registering servicers before `start`.
        port: the bound port after `listen`; 0 on a Unix socket.
    """

    def __init__(
        self,
        max_message: int = PEER_MESSAGE,
        *,
        max_request: int | None = None,
        larger: Mapping[str, int] | None = None,
        way_in: WayIn = PLAINTEXT,
        credentials: ServerCredentials | None = None,
        inspectable: bool = True,
        limits: Limits | None = None,
    ) -> None:
        """Makes a server.

        Args:
            max_message: most bytes of a message in either direction.
            max_request: most bytes of a request, when they are fewer: a caller may have hundreds under way.
            larger: of methods whose requests may have more than that, how many. Few requests of one caller are read at
                once then.
            way_in: tells who calls.
            credentials: what makes those for TLS; None serves in plaintext.
            inspectable: whether health checking and reflection are served as well.
            limits: what it takes from the network at once; None for the defaults.
        """
        limits = limits or Limits()
        requests = Requests(max_request or max_message, larger or {})
        self.server = grpc.aio.server(
            interceptors=[StatusInterceptor(way_in, limits, requests)],
            options=[*_SERVER, *_limits(limits), *_sizes(requests.most, max_message)],
        )
        self.port = 0
        self._credentials = credentials
        self._inspectable = inspectable
        self._health = Health()
        self._services: list[str] = []
        self._connections = limits.connections
        self._watch: asyncio.Task[None] | None = None

    def listen(self, address: str) -> int:
        """Binds `host:port` (port 0: the system chooses) or `unix:path`, and returns the port.

        Raises:
            NotPossible: it cannot be bound; usually another program has it.
        """
        try:
            if self._credentials is None:
                self.port = self.server.add_insecure_port(address)
            else:
                self.port = self.server.add_secure_port(address, self._credentials())
        except RuntimeError as error:
            raise NotPossible(
                f"cannot listen on {address}: another program has it, or the host is not this machine's; "
                "choose another with --listen"
            ) from error
        return self.port

    async def start(self, *services: str) -> None:
        """Starts to serve; `services` are the full names of what was registered."""
        if self._inspectable:
            self._services = ["", *services]
            _register_reflection(self.server, services)
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
            self._health.set(self._services, health_pb2.HealthCheckResponse.SERVING)
        await self.server.start()
        if self.port > 1:  # gRPC's number for a Unix socket
            self._watch = asyncio.create_task(Crowd(self.port, self._connections).watch())

    async def not_serving(self) -> None:
        """Tells health checks that the end is near; calls are still answered."""
        self._health.set(self._services, health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace: float) -> None:
        """Refuses new calls, waits up to `grace` seconds for running ones, and ends."""
        await self.not_serving()
        await self.server.stop(grace)
        if self._watch:
            self._watch.cancel()
        await _calls_ended()


async def _calls_ended() -> None:
    """Waits for what calls leave in this loop: some turns, then some milliseconds."""
    for pause in [0.0] * _LAST_TURNS + [0.001] * _LAST_PAUSES:
        if not any(getattr(task.get_coro(), "__qualname__", "") == _CALL for task in asyncio.all_tasks()):
            return
        await asyncio.sleep(pause)


def _register_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Registers the reflection servicer, which the package serves as v1alpha only, under its v1 name as well."""
    names = (*services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, REFLECTION_V1, REFLECTION_V1ALPHA)
    servicer: Any = ReflectionServicer(names, pool=descriptor_pool.Default())
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (REFLECTION_V1, REFLECTION_V1ALPHA):
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler}),)
        )


def tune_allocator() -> None:
    """Makes glibc keep freed memory, in few places; a harmless no-op elsewhere. Call it before there are threads.

    As it comes, glibc gives every freed block of 1 MiB back to the kernel and faults it in again for the next message:
    measured, a server's cost falls from 3.8 to 1.6 CPU seconds a GB. And it gives each of gRPC's threads an arena, in
    which some such blocks stay: two for all take a fifth less memory at the same speed
    (docs/decisions/0002-grpc-options.md).
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl and others
        return
    m_trim_threshold, m_mmap_threshold, m_arena_max = -1, -3, -8
    mallopt(m_mmap_threshold, 64 * MIB)
    mallopt(m_trim_threshold, 256 * MIB)
    mallopt(m_arena_max, 2)
