"""The neighbours that this peer had, kept over restarts: through them it reaches the network when central is away."""

import asyncio
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from core.private_files import write_private
from peer.directory.judging import is_peer
from peer.links.contacts import Contact
from relevo.v1.content_pb2 import Neighbours, PeerInfo

log = logging.getLogger("relevo.carried")

_FILE = "neighbours.json"
# More would hardly be alive.
MOST = 8


class LastNeighbours:
    """The last few neighbours, the latest first.

    Attributes:
        contacts: who they are.
    """

    def __init__(self, home: Path) -> None:
        """Takes up what `home` remembers: nothing when that cannot be understood, which is logged."""
        self._path = home / _FILE
        self.contacts: Sequence[Contact] = _recalled(self._path)
        self._changed = asyncio.Event()

    def hear(self, found: Neighbours) -> None:
        """Notes the neighbours of now."""
        told = [getattr(found, role) for role in ("primary", "backup") if found.HasField(role)]
        now = [Contact.from_info(info) for info in told if is_peer(info)]
        ids = {contact.peer_id for contact in now}
        contacts = [*now, *(contact for contact in self.contacts if contact.peer_id not in ids)][:MOST]
        if contacts != self.contacts:
            self.contacts = contacts
            self._changed.set()

    async def run(self) -> None:
        """Writes changes into the home, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await asyncio.to_thread(write_private, self._path, _written(self.contacts))
            except OSError as error:
                log.warning("the home cannot keep the last neighbours: %s", error)


def _written(contacts: Iterable[Contact]) -> bytes:
    kept = [{"peer_id": one.peer_id, "name": one.name, "addresses": one.addresses} for one in contacts]
    return f"{json.dumps(kept, indent=2)}\n".encode("ascii")


def _recalled(path: Path) -> list[Contact]:
    try:
        infos = [PeerInfo(**one) for one in json.loads(path.read_text("ascii"))[:MOST]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        log.warning("%s is not understood and not used: %s", path, error)
        return []
    return [Contact.from_info(info) for info in infos if is_peer(info)]
