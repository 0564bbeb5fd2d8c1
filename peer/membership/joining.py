"""How a daemon becomes a member, or finds that it is one: what its home holds, and what a token adds to it."""

import asyncio
import logging
from dataclasses import dataclass, replace

from core.certificates import network_id_of
from core.errors import NotPossible
from core.identity import Identity
from core.tokens import JoinToken
from peer.directory.central_time import CentralTime
from peer.links.contacts import addresses
from peer.membership.enrolling import Enrolling
from peer.membership.membership import Membership, load, save
from peer.settings import ServeSettings, recall, remember

log = logging.getLogger("relevo.identity")

HOW_TO_JOIN = (
    "this peer is no member of a network yet: "
    "ask the operator for a token (relevo-central invite) and run relevo serve DIR --join TOKEN"
)


@dataclass(frozen=True, slots=True)
class Joined:
    """A member: `settings` name its centrals, and `token` is for joining anew should central have forgotten it."""

    settings: ServeSettings
    membership: Membership
    token: JoinToken | None


async def joined(settings: ServeSettings, identity: Identity, time: CentralTime) -> Joined:
    """Returns the membership that the home holds, or gets one with the token.

    Where central is gets written before the membership: a home that holds a membership can always use it, and one that
    was killed in between takes the same token again.

    Raises:
        InvalidInput: the token is damaged.
        NotPossible: there is neither a membership nor a token, the token is another network's, or the home cannot be
            written.
        RelevoError: central refuses, or is not reached.
    """
    token = JoinToken.from_text(settings.join) if settings.join else None
    membership = load(settings.home, identity.peer_id)
    if token is None:
        if membership is None:
            raise NotPossible(HOW_TO_JOIN)
        if not settings.centrals:
            raise NotPossible("this home does not remember where central is; run relevo serve DIR --central HOST:PORT")
        return Joined(settings, membership, None)
    if membership is not None and membership.network_id == network_id_of(token.authority):
        log.info("this peer is a member of the network %s already; the token is not needed", membership.network_id)
        centrals = settings.centrals or recall(settings.home).centrals or token.addresses
        # It may still be newer than what the home knows of central.
        membership = replace(membership, enrolment_port=token.enrolment_port)
        return Joined(replace(settings, centrals=centrals, via=settings.via or token.via), membership, token)
    if membership is not None:
        raise NotPossible(
            f"this home is a member of the network {membership.network_id}, and the token is another network's: "
            "use another home (relevo --home NEW serve DIR --join TOKEN), "
            f"or remove {settings.home / 'network'} to leave the network for good"
        )
    settings = replace(settings, centrals=settings.centrals or token.addresses, via=settings.via or token.via)
    enrolling = Enrolling(identity, time, entrances=addresses((*settings.via, *settings.friends)))
    membership = await enrolling.enroll(replace(token, addresses=settings.centrals), settings.name)
    try:
        await asyncio.to_thread(_keep, settings, membership)
    except OSError as error:
        raise NotPossible(f"the membership cannot be written to {settings.home}: {error.strerror}") from error
    log.info("this peer is now a member of the network %s, as %s", membership.network_id, identity.peer_id)
    return Joined(settings, membership, token)


def _keep(settings: ServeSettings, membership: Membership) -> None:
    remember(settings)
    save(settings.home, membership)
