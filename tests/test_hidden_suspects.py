"""Peers that nobody can dial and that central does not hear: those that they are attached to prove that they live.

Central and all peers are real, in one process. Nobody carries anything to central for others, so that a hidden peer
whose door is shut has no other way to stay than its own signature.
"""

import pytest

from central.sessions.membership import State
from peer.fetching.reaching import How
from peer.work.transfers import State as TransferState
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1 import peer_relay_pb2 as relay_pb2
from tests.door import DoorNetwork, begun, lists, staying
from tests.network import NOWHERE, eventually, fetch, found_hidden


class HiddenSuspects(DoorNetwork):
    """Two peers that nobody can dial, uma behind the door and uwe, and the two that both are attached to."""

    async def begin(self):
        await self.start_central()
        self.uma = await self.behind_the_door("uma", advertise=NOWHERE)
        self.uwe = await self.join("uwe", advertise=NOWHERE)
        self.relays = [await self.join(name, carried=0) for name in ("ana", "ben")]
        for hidden in (self.uma, self.uwe):
            await found_hidden(hidden)
            await eventually(lambda hidden=hidden: len(hidden.attaching.attached_to) == len(self.relays))

    @property
    def state(self):
        """How central sees uma; None when it has been withdrawn."""
        found = self.roster.get(self.uma.identity.peer_id)
        return found and self.roster.leases.state(found.session_id)

    def proofs(self):
        """The nonces that uma has proved its life with, as they come to be known to central."""
        suspects, nonces = self.central.directory.suspects, []
        proved = suspects.proved

        def noted(suspect, nonce, signature):
            proved(suspect, nonce, signature)
            nonces.append(nonce)

        suspects.proved = noted
        return nonces


@pytest.fixture
async def network(tmp_path):
    async with begun(HiddenSuspects, tmp_path) as network:
        yield network


async def marks(peer):
    listed = await peer.routes.at_central(lambda central: central.ListPeers(pb2.ListPeersRequest(), timeout=20))
    return {one.peer.name: one.state for one in listed.peers}


async def test_a_hidden_peer_that_only_central_does_not_hear_is_kept_and_gives_through_its_relay(network, tmp_path):
    uma, uwe = network.uma, network.uwe
    await lists(uwe, "uma.txt")
    session, proofs = uma.session.login, network.proofs()
    async with staying(network, uma):
        await network.door.shut()
        await eventually(lambda: network.state is State.REACHED, 20)
        assert (await marks(uwe))["uma"] == pb2.PEER_STATE_REACHED
        transfer = await fetch(uwe, "uma.txt", tmp_path / "got")
        assert transfer.state is TransferState.DONE, transfer.error
        assert (tmp_path / "got" / "uma.txt").read_bytes() == b"uma" * 1000
        assert transfer.received_by == {How.RELAYED: 3000}
        await network.stop("ana")
        left = len(proofs)
        await eventually(lambda: len(set(proofs[left:])) > 1)  # one relay is enough
        assert network.state is State.REACHED
        await network.door.open()
        await eventually(lambda: network.state is State.LIVE)
    assert uma.session.login is session


async def test_relays_that_say_that_a_hidden_peer_lives_keep_it_no_longer_than_its_grace(network):
    asked = []
    for relay in network.relays:

        async def forged(holder, wanted, remaining, relay=relay):
            asked.append(holder)
            return relay_pb2.ProbeResponse(signature=relay._prove(wanted.probe.nonce)).SerializeToString()

        relay.relaying.ask_here = forged
    proofs = network.proofs()
    await network.door.shut()
    await eventually(lambda: network.state is None, 20)
    assert asked
    assert not proofs
