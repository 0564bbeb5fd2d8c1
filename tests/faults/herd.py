"""A thousand peers that lose central and come back: real sessions over TLS, each on a connection of its own."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator

from bench.programs import Failed
from core.certificates import Authority, Kind, Subject
from core.identity import Identity
from core.trust import Trust
from peer.directory.session import Introduction, Session
from peer.links.channels import Channels
from peer.links.credentials import Credentials
from peer.membership.membership import Membership
from tests.faults.network import Network, programs

PEERS = 1000
AWAY = 30.0
_LIFE = 86_400.0
_LOOK = 0.02


class Herd:
    """Sessions in this process, as daemons have them, of peers that share nothing and that nobody can dial."""

    def __init__(self, network: Network, authority: Authority) -> None:
        self._network = network
        self._authority = authority
        self._sessions: list[Session] = []
        self._channels: list[Channels] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def join(self, peers: int) -> None:
        """Has so many peers log in, and waits until all of them are live."""
        for number in range(peers):
            self._join(number)
            await asyncio.sleep(0.005)
        await self.live(120.0)

    def _join(self, number: int) -> None:
        identity, now = Identity.generate(), time.time()
        leaf = self._authority.issue(Subject(Kind.PEER, identity.peer_id), identity.public_key, now, _LIFE)
        trust = Trust(1, (self._authority.certificate,), frozenset())
        member = Membership(self._authority.network_id, (leaf,), trust, 1, now, now + _LIFE)
        channels = Channels(Credentials(identity, self._network.programs.base, member))
        session = Session(
            identity,
            channels,
            (self._network.central.address,),
            Introduction(f"herd-{number}", lambda _: (), lambda: 0, lambda: 1),
            clock=time.monotonic,
            wall=time.time,
        )
        self._sessions.append(session)
        self._channels.append(channels)
        self._tasks.append(asyncio.create_task(session.run()))

    async def live(self, patience: float) -> list[float]:
        """Waits until all are live; returns how long that took each of them.

        Raises:
            Failed: some are not, after `patience` seconds.
        """
        began = time.monotonic()
        took: dict[int, float] = {}
        while len(took) < len(self._sessions):
            now = time.monotonic() - began
            for number, session in enumerate(self._sessions):
                if session.live:
                    took.setdefault(number, now)
            if now > patience:
                raise Failed(f"{len(self._sessions) - len(took)} peers are not back", self._network.central.log)
            await asyncio.sleep(_LOOK)
        return list(took.values())

    def logins(self) -> list[str]:
        """Returns the session ids, which change with each login."""
        return [session.login.session_id if session.login else "" for session in self._sessions]

    async def close(self) -> None:
        """Ends all sessions without a word."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(channels.close() for channels in self._channels))


@contextlib.asynccontextmanager
async def herd(peers: int) -> AsyncIterator[tuple[Network, Herd]]:
    """Runs central and so many peers while the context is open."""
    with programs() as some:
        network = Network(some)
        await network.start_central("127.0.0.1:0")
        authority = Authority.from_pem((network.data / "authorities" / "1.pem").read_bytes())
        made = Herd(network, authority)
        try:
            await made.join(peers)
            yield network, made
        finally:
            await made.close()


async def come_back(rounds: int, peers: int = PEERS, away: float = AWAY) -> list[float]:
    """Kills central, starts it again after a while, and returns how long it took each peer to be live again."""
    found = []
    async with herd(peers) as (network, all_of_them):
        for _ in range(rounds):
            before = all_of_them.logins()
            os.killpg(network.central.process.pid, signal.SIGKILL)
            network.central.process.wait()
            await asyncio.sleep(away)
            await network.start_central()
            found += await all_of_them.live(60.0)
            if all_of_them.logins() != before:
                raise Failed("somebody had to log in anew", network.central.log)
    return found
