"""Use cases of suspects: others look for them before they are given up, and what they prove to them counts."""

import logging
from collections.abc import Callable

from central.sessions.membership import State
from central.sessions.probing import Probing, Round
from central.sessions.roster import Roster
from central.store.store import PeerRecord
from core.errors import NotFound
from core.life import check_proof

log = logging.getLogger("relevo.central")


class Suspects:
    """Has suspects looked for by those who use them or are used by them."""

    def __init__(self, roster: Roster, probing: Probing, clock: Callable[[], float]) -> None:
        self._roster = roster
        self._probing = probing
        self._clock = clock

    @property
    def patience(self) -> float:
        """How long whoever looks for a suspect should try, in seconds."""
        return self._probing.patience

    def look_for(self) -> None:
        """Begins the rounds of probes that are due, and has the probers told."""
        now = self._clock()
        doubtful = [self._roster.by_session(session).peer_id for session in self._roster.leases.doubtful(now)]
        in_order = [peer.peer_id for peer in self._roster.beating()] if doubtful else []
        begun = self._probing.sweep({suspect: self._near(suspect) for suspect in doubtful}, in_order, now)
        for each in begun:
            log.debug("%d peers look for %s", len(each.probers), each.suspect)
        self._roster.poke({prober: None for each in begun for prober in each.probers})

    def asked_of(self, prober: str) -> list[tuple[Round, PeerRecord]]:
        """Returns whom a peer should look for at this moment."""
        rounds = self._probing.asked(prober, self._clock())
        return [(each, suspect) for each in rounds if (suspect := self._roster.get(each.suspect))]

    def proved(self, suspect: str, nonce: bytes, signature: bytes) -> None:
        """Takes what a suspect has signed: it keeps the session for one lease from when the nonce was made.

        Raises:
            NotFound: nobody looks for this peer with this nonce, or not any more.
            Unauthenticated: the signature is not the suspect's.
        """
        began = self._probing.began(suspect, nonce)
        if began is None:
            raise NotFound("nobody looks for this peer with this nonce any more")
        peer = self._roster.require(suspect)
        check_proof(suspect, peer.public_key, nonce, signature)
        if self._roster.leases.proved(peer.session_id, began):
            log.warning("peer %s (%s) does not reach central, but others reach it", peer.name, suspect)

    def _near(self, suspect: str) -> list[str]:
        """Returns those in order who use the suspect or are used by it."""
        neighbours = self._roster.neighbours
        assignment = neighbours.of(suspect)
        near = dict.fromkeys((assignment.primary, assignment.backup, *neighbours.users(suspect)))
        return [peer.peer_id for peer in map(self._roster.get, near) if peer and self._beats(peer)]

    def _beats(self, peer: PeerRecord) -> bool:
        return self._roster.leases.state(peer.session_id) is State.LIVE
