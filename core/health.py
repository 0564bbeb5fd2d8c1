"""Health checking.

The package's own asynchronous servicer has no List, and lets one client stop it: its Watch writes under a lock that all
watchers of a service share. Once one of them stops reading, the others hear nothing more, and a server that wants to
tell them of its end waits for ever.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

from core.errors import NotFound

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]


class Health(HealthServicer):  # type: ignore[misc] # the package has no types
    """The state of each service; the empty name is the whole server."""

    def __init__(self) -> None:
        self._states: dict[str, HealthCheckResponse.ServingStatus] = {}
        self._changed = asyncio.Event()

    def set(self, services: Iterable[str], state: HealthCheckResponse.ServingStatus) -> None:
        """Sets the state of services, and lets their watchers know."""
        self._states.update(dict.fromkeys(services, state))
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: HealthCheckRequest, context: "Context") -> HealthCheckResponse:  # noqa: N802 - RPC
        """Answers the state of one service.

        Raises:
            NotFound: it is not served here.
        """
        del context
        if request.service not in self._states:
            raise NotFound("no such service is served here")
        return HealthCheckResponse(status=self._states[request.service])

    async def List(self, request: HealthListRequest, context: "Context") -> HealthListResponse:  # noqa: N802 - RPC
        """Answers the states of all services."""
        del request, context
        states = {name: HealthCheckResponse(status=state) for name, state in self._states.items()}
        return HealthListResponse(statuses=states)

    async def Watch(  # noqa: N802 - RPC
        self, request: HealthCheckRequest, context: "Context"
    ) -> AsyncIterator[HealthCheckResponse]:
        """Answers the state of one service, and again whenever it has changed."""
        del context
        told = None
        while True:
            changed = self._changed
            state = self._states.get(request.service, HealthCheckResponse.SERVICE_UNKNOWN)
            if state != told:
                told = state
                yield HealthCheckResponse(status=state)
            else:
                await changed.wait()
