"""What a peer that nobody can dial is attached to.

Its relays are its neighbours, for as long as they are that. Its hosts have invited it, and let it go when they have
what they wanted.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from core.errors import InvalidInput, RelevoError
from core.names import printable
from peer import checked
from peer.giving.answering import Answering
from peer.links.backoff import jittered
from peer.links.contacts import Contact
from peer.links.dialling import Dialler
from peer.relays.attachment import Attachment
from relevo.v1 import peer_relay_pb2 as pb2

log = logging.getLogger("relevo.attaching")

# A stream that broke is opened again after these pauses, in seconds, then ever more rarely.
REOPEN = (0.1, 0.2, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5)
# Addresses of a host that are tried, and hosts at once.
MOST_TRIED, MOST_HOSTS = 4, 64


class Attaching:
    """The streams of one peer to its relays and hosts."""

    def __init__(self, self_id: str, answering: Answering, dialler: Dialler, clock: Callable[[], float]) -> None:
        """Nothing is attached to before `keep`."""
        self._dialler = dialler
        self._made = partial(Attachment, self_id, answering, clock, self._invited)
        self._relays: dict[Contact, tuple[Attachment, asyncio.Task[None]]] = {}
        self._hosts: set[asyncio.Task[None]] = set()

    @property
    def attached_to(self) -> list[Contact]:
        """The relays that answer at this moment."""
        return [relay for relay, (attachment, _) in self._relays.items() if attachment.answered]

    def keep(self, relays: Sequence[Contact]) -> None:
        """Stays attached to these relays from now on, and to no others."""
        for relay in self._relays.keys() - set(relays):
            self._relays.pop(relay)[1].cancel()
        for relay in relays:
            if relay not in self._relays:
                attachment = self._made()
                self._relays[relay] = attachment, asyncio.create_task(self._stay(attachment, relay))

    async def close(self) -> None:
        """Ends all streams."""
        tasks = [*(task for _, task in self._relays.values()), *self._hosts]
        self._relays.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _stay(self, attachment: Attachment, relay: Contact) -> None:
        """Keeps a stream to a relay open."""
        failures = 0
        while True:
            held = [await self._try(attachment, relay, address) for address in relay.addresses[:MOST_TRIED]]
            failures = 1 if any(held) else failures + 1
            await asyncio.sleep(REOPEN[failures - 1] if failures <= len(REOPEN) else jittered(failures - len(REOPEN)))

    async def _try(self, attachment: Attachment, host: Contact, address: str, invitation: str = "") -> bool:
        """Serves a stream as long as it holds, and tells whether it ever did."""
        try:
            await attachment.serve(partial(self._dialler.peer, address, host.peer_id), invitation)
        except RelevoError as error:
            log.info("not attached to %s at %s: %s", printable(host.name), printable(address), error)
            return attachment.held
        return True

    def _invited(self, invitation: pb2.Invitation) -> None:
        """Attaches to who has invited this peer: under TLS it has to be that one who answers there."""
        try:
            checked.invitation(invitation)
        except InvalidInput as error:
            log.info("an invitation is not followed: %s", error)
            return
        if len(self._hosts) >= MOST_HOSTS:
            log.info("an invitation is not followed: there are %d already", MOST_HOSTS)
            return
        task = asyncio.create_task(self._visit(Contact.from_info(invitation.host), invitation.invitation))
        self._hosts.add(task)
        task.add_done_callback(self._hosts.discard)

    async def _visit(self, host: Contact, invitation: str) -> None:
        for address in host.addresses[:MOST_TRIED]:
            if await self._try(self._made(), host, address, invitation):
                return
