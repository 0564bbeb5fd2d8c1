"""A carrier that lies: whatever it makes of what passes it, its peer stays, by another way, and believes nothing."""

import asyncio
import contextlib
import logging

import pytest

from core import errors
from core.signing import AnswerSigner, sign_request
from core.status import to_status
from peer.directory import carried_central, detour
from peer.directory.carriers import LONG_REST
from peer.relays.carrying import DirectCarrier
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import SignedAnswer
from tests.door import DoorNetwork, at, lists, via
from tests.network import eventually

BEAT = "/relevo.v1.CentralDirectory/Beat"
LOGIN = "/relevo.v1.CentralDirectory/Login"
FORGED = pb2.Directive(store=pb2.StoreDirective(placement_id="f" * 32, content_id=b"f" * 32, size_bytes=1))


class Liar:
    """Carries for one peer's callers: honestly, until it has a lie to tell; and keeps all that passes."""

    def __init__(self, honest):
        self.honest = honest
        self.peer = None
        self.lie = None
        self.told = 0
        self.passed = []

    async def carry(self, carrier, request):
        if self.peer is None or carrier._routes is not self.peer.routes:
            return await self.honest(carrier, request)
        if self.lie is not None:
            self.told += 1
            return await self.lie(self, carrier, request)
        response = await self.honest(carrier, request)
        self.keep(request, response)
        return response

    def keep(self, request, response):
        kept = pb2.CarryRequest(), pb2.CarryResponse()
        kept[0].CopyFrom(request)
        kept[1].CopyFrom(response)
        self.passed.append(kept)

    def earlier(self, method):
        """An answer of before, to the same RPC when there was one."""
        like = [response for request, response in self.passed if request.signed.method == method]
        return (like or [response for _, response in self.passed])[0]


@pytest.fixture
async def stage(tmp_path, monkeypatch):
    """A liar, an honest peer, and one that only reaches central through them."""
    liar = Liar(DirectCarrier.carry)

    async def carry(self, request):
        return await liar.carry(self, request)

    monkeypatch.setattr(DirectCarrier, "carry", carry)
    monkeypatch.setattr(carried_central, "PATIENCE", 4.0)  # on a busy machine too the first to be asked carries
    async with contextlib.AsyncExitStack() as stack:
        network = DoorNetwork(tmp_path, stack)
        await network.start_central()
        ana, cho = await network.join("ana"), await network.join("cho")
        await network.door.shut()
        liar.peer = ana
        yield network, liar, cho


async def through_the_liar(network, liar, cho):
    ben = await network.behind_the_door("ben", via=(at(liar.peer), at(cho)))
    assert via(ben) == at(liar.peer)
    await eventually(lambda: sum(request.signed.method == BEAT for request, _ in liar.passed) > 1)
    return ben


async def an_answer_of_before(liar, carrier, request):
    del carrier
    return liar.earlier(request.signed.method)


async def a_flipped_byte(liar, carrier, request):
    response = await liar.honest(carrier, request)
    data = bytearray(response.answer.answer)
    data[len(data) // 2] ^= 1
    response.answer.answer = bytes(data)
    return response


async def a_directive_of_its_own(liar, carrier, request):
    response = await liar.honest(carrier, request)
    forged = pb2.BeatResponse.FromString(response.answer.answer)
    forged.answer.directives.append(FORGED)
    response.answer.answer = forged.SerializeToString()
    return response


async def a_directive_under_its_own_signature(liar, carrier, request):
    response = await a_directive_of_its_own(liar, carrier, request)
    answer = SignedAnswer(answer=response.answer.answer)
    signer = AnswerSigner(liar.peer.identity, liar.peer.credentials.membership.certificates)
    signer.sign(answer, request.signed, request.public_key)
    return pb2.CarryResponse(answer=answer)


async def a_directive_under_its_own_signature_and_centrals_certificate(liar, carrier, request):
    response = await a_directive_of_its_own(liar, carrier, request)
    answer = SignedAnswer(answer=response.answer.answer)
    AnswerSigner(liar.peer.identity, tuple(response.answer.certificates)).sign(
        answer, request.signed, request.public_key
    )
    return pb2.CarryResponse(answer=answer)


async def an_unsigned_answer(liar, carrier, request):
    response = await liar.honest(carrier, request)
    return pb2.CarryResponse(answer=SignedAnswer(answer=response.answer.answer))


async def that_the_session_is_superseded(liar, carrier, request):
    response = await liar.honest(carrier, request)
    response.answer.status = to_status(errors.SessionSuperseded("stop")).SerializeToString()
    return response


async def that_the_peer_is_revoked_by_hearsay(liar, carrier, request):
    del liar, carrier, request
    raise errors.Revoked("you are out")


async def what_central_says_to_itself(liar, carrier, request):
    """The answer to the same RPC, signed by central, for another session."""
    own = liar.peer
    signed = sign_request(own.identity, request.signed.method, request.signed.payload, own.session.now)
    return await liar.honest(carrier, pb2.CarryRequest(signed=signed, public_key=own.identity.public_key))


async def what_central_says_to_a_changed_request(liar, carrier, request):
    request.signed.payload += b"\x12\x00"
    return await liar.honest(carrier, request)


async def nothing(liar, carrier, request):
    del liar, carrier, request
    await asyncio.sleep(60)


async def rubbish(liar, carrier, request):
    del liar, carrier, request
    return pb2.CarryResponse()


SEEN_THROUGH = [
    an_answer_of_before,
    a_flipped_byte,
    a_directive_of_its_own,
    a_directive_under_its_own_signature,
    a_directive_under_its_own_signature_and_centrals_certificate,
    an_unsigned_answer,
    that_the_session_is_superseded,
    what_central_says_to_itself,
    what_central_says_to_a_changed_request,
    rubbish,
]


async def lied_to(ben, liar, cho, lie):
    """Has a carrier that was believed so far lie until another carries; returns what was obeyed meanwhile."""
    carriers, obeyed = ben.session.detour.central.carriers, []
    carriers._resting.clear()
    believed = next(one for one in carriers.in_order() if one.address == at(liar.peer))
    ben.session.listeners.directives = obeyed.extend
    liar.lie, liar.told = lie, 0

    def passed_over():
        ben.session.beat_soon()
        if not liar.told:
            carriers.working = believed
        return liar.told and via(ben) == at(cho)

    await eventually(passed_over)
    beaten = asyncio.Event()
    ben.session.listeners.catalogue_version = lambda _: beaten.set()
    ben.session.beat_soon()
    async with asyncio.timeout(20):
        await beaten.wait()
    liar.lie = None
    return obeyed


async def test_what_is_not_centrals_answer_is_not_believed_and_the_backup_carries(stage, caplog):
    network, liar, cho = stage
    ben = await through_the_liar(network, liar, cho)
    before = ben.session.login
    for lie in SEEN_THROUGH:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "relevo.carried"):
            obeyed = await lied_to(ben, liar, cho, lie)
        assert not obeyed, lie
        assert "brings answers that are not central's" in caplog.text, lie
        assert ben.session.login is before, lie
        assert not ben.stopped.done(), lie
        carriers = ben.session.detour.central.carriers
        assert carriers._resting[at(liar.peer)] > carriers.clock() + LONG_REST / 2, lie


async def test_a_carrier_that_brings_nothing_is_passed_over(stage, monkeypatch):
    network, liar, cho = stage
    ben = await through_the_liar(network, liar, cho)
    monkeypatch.setattr(carried_central, "PATIENCE", 1.0)
    before = ben.session.login
    for failure in (nothing, that_the_peer_is_revoked_by_hearsay):
        await lied_to(ben, liar, cho, failure)
        assert ben.session.login is before, failure
        assert not ben.stopped.done(), failure


async def test_no_secret_of_a_session_passes_a_carrier(stage, monkeypatch):
    """Neither that of a carried session, nor that of the one which was before it."""
    monkeypatch.setattr(detour, "RETURN_PAUSE", 60.0)
    network, liar, cho = stage
    await network.door.open()
    ben = await network.behind_the_door("ben", via=(at(liar.peer),))
    direct = ben.session.login.session_id
    assert direct == network.roster.get(ben.identity.peer_id).session_id
    await network.door.shut()
    await eventually(lambda: ben.session.live and ben.session.carrier)
    (ben.library.shared / "later.txt").write_bytes(b"later")
    await lists(cho, "later.txt")
    carried = network.roster.get(ben.identity.peer_id).session_id
    await network.stop("ben")
    methods = {request.signed.method.rpartition("/")[2] for request, _ in liar.passed}
    assert {"Login", "Beat", "PublishFiles", "Logout"} <= methods
    everything = b"".join(part.SerializeToString() for pair in liar.passed for part in pair)
    assert ben.identity.peer_id.encode() in everything
    for secret in (direct, carried):
        assert secret.encode() not in everything
        assert bytes.fromhex(secret) not in everything


async def test_a_login_that_is_held_back_ends_no_session_when_it_comes(stage):
    network, liar, cho = stage
    kept = []

    async def hold_back(liar, carrier, request):
        kept.append((carrier, pb2.CarryRequest.FromString(request.SerializeToString())))
        raise errors.Unreachable("not now")

    liar.lie = hold_back
    ben = await network.behind_the_door("ben", via=(at(liar.peer), at(cho)))
    assert via(ben) == at(cho)
    before = network.roster.get(ben.identity.peer_id).session_id
    logins = [(carrier, request) for carrier, request in kept if request.signed.method == LOGIN]
    assert logins
    for carrier, request in logins:
        await liar.honest(carrier, request)
    assert network.roster.get(ben.identity.peer_id).session_id == before
    beats = asyncio.Event()
    ben.session.listeners.catalogue_version = lambda _: beats.set()
    async with asyncio.timeout(20):
        await beats.wait()
    assert not ben.stopped.done()
