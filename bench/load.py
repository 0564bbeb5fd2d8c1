"""Clients that load a central or a peer and measure what that costs: blocks, beats, connections.

Run as a program of its own, so that the server's processor time is the server's alone: `python -m bench.load KIND …`
prints one JSON document. With `--authority` (the key file of a network) it makes its own certificates and speaks TLS.
"""

import core  # noqa: F401 - before gRPC, which reads its environment once

# isort: split
import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from core.certificates import Authority, Kind, Subject, to_pem
from core.content import Layout, digest
from core.identity import Identity
from core.rpc import PEER_MESSAGE, open_channel, tune_allocator
from core.signing import new_request_id, sign_request
from core.tls import Material, channel_credentials, expecting
from relevo.v1 import central_directory_pb2 as central_pb2
from relevo.v1 import peer_relay_pb2 as relay_pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub
from relevo.v1.peer_relay_pb2_grpc import PeerRelayStub

IN_FLIGHT = 8
LOGIN = "/relevo.v1.CentralDirectory/Login"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Target:
    """Who is loaded: `host:port`, process id, the name expected in TLS, and the key file that makes certificates."""

    address: str
    pid: int
    name: str
    authority: Path | None

    def material(self, identity: Identity) -> Material | None:
        """Returns what a peer with that identity shows; None in plaintext."""
        if self.authority is None:
            return None
        authority = Authority.from_pem(self.authority.read_bytes())
        subject = Subject(Kind.PEER, identity.peer_id)
        leaf = authority.issue(subject, identity.public_key, time.time(), 3600.0)
        return Material(identity.pem(), to_pem([leaf]), to_pem([authority.certificate]))

    def channel_of_its_own(self, material: Material | None) -> grpc.aio.Channel:
        """Returns a channel that shares its connection with no other."""
        options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1)]
        if material is None:
            return grpc.aio.insecure_channel(self.address, options)
        return grpc.aio.secure_channel(self.address, channel_credentials(material), [*options, *expecting(self.name)])

    def used(self) -> float:
        """Returns the processor time that the server has used so far, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    async def measured(self, work: Callable[[], Awaitable[float]]) -> dict[str, float]:
        """Does `work`, which tells how much it did, and returns what that took on both sides."""
        server, client, began = self.used(), time.process_time(), time.monotonic()
        amount = await work()
        took = time.monotonic() - began
        return {
            "amount": amount,
            "seconds": took,
            "server_cpu": self.used() - server,
            "client_cpu": time.process_time() - client,
        }


async def fetch_blocks(target: Target, content_id: bytes) -> dict[str, float]:
    """Fetches a content with `IN_FLIGHT` blocks at once, verifies each block, and writes nothing."""
    async with open_channel(target.address, PEER_MESSAGE, target.material(Identity.generate()), target.name) as channel:
        stub = PeerRelayStub(channel)  # type: ignore[no-untyped-call,unused-ignore]
        manifest = await stub.GetManifest(relay_pb2.GetManifestRequest(content_id=content_id), timeout=30)
        layout = Layout(manifest.size_bytes)
        wanted = iter(range(layout.block_count))

        async def fetch() -> None:
            for index in wanted:
                request = relay_pb2.GetBlockRequest(content_id=content_id, index=index)
                block = await stub.GetBlock(request, timeout=60)
                if digest(block.data) != manifest.block_digests[index * 32 : index * 32 + 32]:
                    raise click.ClickException(f"block {index} is wrong")

        async def fetch_all() -> float:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(IN_FLIGHT):
                    tasks.create_task(fetch())
            return float(manifest.size_bytes)

        return await target.measured(fetch_all)


async def beat(
    target: Target, peers: int, interval: float, seconds: float, end: Path | None = None
) -> dict[str, float]:
    """Logs peers in, each on a connection of its own, and has each beat for some seconds, or until a file appears."""
    identities = [Identity.generate() for _ in range(peers)]
    channels = [target.channel_of_its_own(target.material(identity)) for identity in identities]
    stubs = [CentralDirectoryStub(channel) for channel in channels]
    streams: dict[int, Any] = {}
    sessions = [""] * peers
    sequences = [0] * peers
    longest = 0.0
    few = asyncio.Semaphore(IN_FLIGHT)

    async def one(number: int) -> None:
        sequences[number] += 1
        request = central_pb2.HeartbeatRequest(
            peer_id=identities[number].peer_id, session_id=sessions[number], sequence=sequences[number]
        )
        await streams[number].write(request)
        while (await streams[number].read()).sequence != sequences[number]:
            pass

    async def arrive(number: int) -> None:
        async with few:  # all handshakes at once could take longer than a server waits for one
            sessions[number] = await _logged_in(stubs[number], identities[number], number)
            streams[number] = stubs[number].Heartbeat()
            await one(number)

    async def beating(number: int, time_left: Callable[[float], bool]) -> int:
        nonlocal longest
        await asyncio.sleep(interval * number / peers)
        count, due = 0, time.monotonic()
        while time_left(due):
            began = time.monotonic()
            await one(number)
            longest = max(longest, time.monotonic() - began)
            count += 1
            due += interval
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        return count

    async def all_beat() -> float:
        until = time.monotonic() + seconds
        going_on = (lambda _: not end.exists()) if end else (lambda due: due < until)
        return float(sum(await asyncio.gather(*(beating(number, going_on) for number in range(peers)))))

    await asyncio.gather(*(arrive(number) for number in range(peers)))
    result = await target.measured(all_beat)
    for number, (identity, session) in enumerate(zip(identities, sessions, strict=True)):
        streams[number].cancel()
        await stubs[number].Logout(
            central_pb2.LogoutRequest(peer_id=identity.peer_id, session_id=session, request_id=new_request_id())
        )
    await asyncio.gather(*(channel.close() for channel in channels))
    return {**result, "longest_answer": longest}


async def _logged_in(stub: Any, identity: Identity, number: int) -> str:
    details = central_pb2.LoginDetails(
        name=f"load-{number}", addresses=[], min_protocol_version=1, max_protocol_version=1
    )
    signed = sign_request(identity, LOGIN, details.SerializeToString(), time.time())
    request = central_pb2.LoginRequest(signed=signed, public_key=identity.public_key)
    answer = await stub.Login(request, timeout=20, wait_for_ready=True)
    return str(answer.session_id)


async def connect(target: Target, count: int) -> dict[str, float]:
    """Makes connections one after the other, with one call on each."""
    material = target.material(Identity.generate())

    async def connect_all() -> float:
        for _ in range(count):
            async with target.channel_of_its_own(material) as channel:
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        return float(count)

    return await target.measured(connect_all)


@click.command()
@click.argument("kind", type=click.Choice(["blocks", "beats", "connections"]))
@click.option("--address", required=True)
@click.option("--pid", type=int, required=True)
@click.option("--name", default="")
@click.option("--authority", type=click.Path(path_type=Path), default=None)
@click.option("--content", default="")
@click.option("--peers", default=200)
@click.option("--interval", default=0.2)
@click.option("--seconds", default=4.0)
@click.option("--until", type=click.Path(path_type=Path), default=None)
@click.option("--count", default=500)
def main(
    *,
    kind: str,
    address: str,
    pid: int,
    name: str,
    authority: Path | None,
    content: str,
    peers: int,
    interval: float,
    seconds: float,
    until: Path | None,
    count: int,
) -> None:
    """Loads one server with one kind of work."""
    tune_allocator()
    target = Target(address, pid, name, authority)
    works = {
        "blocks": lambda: fetch_blocks(target, bytes.fromhex(content)),
        "beats": lambda: beat(target, peers, interval, seconds, until),
        "connections": lambda: connect(target, count),
    }
    print(json.dumps(asyncio.run(works[kind]())))


if __name__ == "__main__":
    main()
