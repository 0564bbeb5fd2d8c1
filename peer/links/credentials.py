"""What this peer shows and accepts in handshakes at this moment. The home keeps it."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from core.identity import Identity
from core.tls import Material
from core.trust import Trust
from peer.membership.membership import Membership, save

log = logging.getLogger("relevo.identity")


class Credentials:
    """A membership that changes while the peer runs.

    Attributes:
        membership: as it stands.
        on_change: called in the event loop when the certificate or the authorities have changed: connections that are
            to live on have to be made anew.
    """

    def __init__(self, identity: Identity, home: Path, membership: Membership) -> None:
        self.membership = membership
        self.on_change: Callable[[], None] = lambda: None
        self._identity = identity
        self._home = home
        self._saved = membership
        self._saving = asyncio.Lock()
        self._saves: set[asyncio.Task[None]] = set()
        self._material = membership.material(identity)

    def material(self) -> Material:
        """Returns what to show and accept; may be called in any thread."""
        return self._material

    def trust(self) -> Trust:
        """Returns whom to trust."""
        return self.membership.trust

    def hear(self, trust: Trust) -> None:
        """Goes by what central says down a heartbeat, at once; the home is told soon after."""
        before = self.membership.trust
        self._take(self.membership.hearing(trust))
        for peer_id in self.membership.trust.revoked - before.revoked:
            log.info("peer %s has been revoked", peer_id)

    def renewed_at(self, enrolment_port: int) -> None:
        """Goes by what central says down a heartbeat of where certificates are renewed: it may have moved."""
        self._take(self.membership.at_port(enrolment_port))

    def renewed(self, answer: Membership, asked: Membership) -> None:
        """Goes by central's answer to a renewal that was asked for when the membership was `asked`."""
        self._take(self.membership.renewed(answer, asked))

    async def close(self) -> None:
        """Waits until the home holds what was said last."""
        await asyncio.gather(*self._saves)

    def _take(self, membership: Membership) -> None:
        before, self.membership = self.membership, membership
        if membership is before:
            return
        task = asyncio.create_task(self._save())
        self._saves.add(task)
        task.add_done_callback(self._saves.discard)
        if (before.certificates, before.trust.authorities) != (membership.certificates, membership.trust.authorities):
            self._material = membership.material(self._identity)
            self.on_change()

    async def _save(self) -> None:
        async with self._saving:  # one after the other, so that the last state is the one that stays
            membership = self.membership
            if membership is self._saved:
                return
            try:
                await asyncio.to_thread(save, self._home, membership)
            except OSError as error:
                log.warning("the home cannot keep the membership: %s", error)
            else:
                self._saved = membership
