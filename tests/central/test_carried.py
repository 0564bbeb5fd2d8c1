"""What members carry to central for one another: as good as said by its author, and no better."""

import pytest
from google.rpc.status_pb2 import Status

from central.quotas import Quotas
from core import errors
from core.identity import Identity
from core.signing import check_answer, session_name
from core.status import from_status
from core.trust import Trust
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.enrolment_pb2 import RenewRequest, RenewResponse

DIRECTORY = "/relevo.v1.CentralDirectory/"
RENEW = "/relevo.v1.Enrolment/Renew"
LEASE = 7.0


class Carried:
    """A member whose calls another one carries."""

    def __init__(self, author, carrier):
        self.author, self.carrier = author, carrier
        self.session = ""
        self.nonce = b""
        self.sequence = 0

    def request(self, method, message, **changed):
        signed = self.author.signed(method, message)
        return pb2.CarryRequest(**{"signed": signed, "public_key": self.author.identity.public_key, **changed})

    async def carry(self, request):
        return (await self.carrier.stub.Carry(request)).answer

    async def call(self, rpc, message, answer):
        method = rpc if rpc.startswith("/") else DIRECTORY + rpc
        request = self.request(method, message)
        return self.read(request, await self.carry(request), answer)

    def check(self, request, answer):
        trust = Trust(1, self.author.authorities)
        check_answer(answer, request.signed, request.public_key, trust, self.author.network.clock.wall())

    def read(self, request, answer, kind):
        self.check(request, answer)
        if answer.WhichOneof("outcome") == "status":
            raise from_status(Status.FromString(answer.status))
        return kind.FromString(answer.answer)

    async def login(self, **changed):
        found = await self.call("Login", self.author.login_request(**changed), pb2.LoginResponse)
        self.session, self.nonce = found.session_id, b""
        return found

    def beat_request(self, **changed):
        self.sequence += 1
        fields = {"peer_id": self.author.id, "session_id": self.session, "sequence": self.sequence, "free_bytes": 5}
        beat = pb2.HeartbeatRequest(**{**fields, **changed})
        return self.request(DIRECTORY + "Beat", pb2.BeatRequest(beat=beat, nonce=self.nonce))

    async def beat(self, request=None, **changed):
        """Beats, and returns whether it counted."""
        request = request or self.beat_request(**changed)
        found = self.read(request, await self.carry(request), pb2.BeatResponse)
        self.nonce = found.nonce
        return bool(found.answer.sequence)

    def publish_request(self, **changed):
        return self.author.publish_request({"a.txt": bytes(32)}, **{"session_id": self.session, **changed})


@pytest.fixture
async def carried(secure):
    """A carrier that is logged in, and a member that is not."""
    carrier, author = await secure.logged_in(), await secure.member()
    return Carried(author, carrier)


def secret_of(carried):
    return carried.author.network.directory.roster.get(carried.author.id).session_id


def leases(carried):
    return carried.author.network.directory.roster.leases


async def lives_for(carried, seconds):
    """Tells whether the author's session outlives so many seconds."""
    await carried.author.network.pass_time(seconds)
    return carried.author.id in carried.author.network.directory.roster


async def test_a_carried_login_makes_a_session_whose_secret_stays_with_central(carried):
    answer = await carried.login()
    assert answer.session_id == session_name(secret_of(carried))
    assert secret_of(carried) not in str(answer)
    assert answer.HasField("terms")


async def listing_of(carried):
    listed = await carried.carrier.stub.ListPeers(pb2.ListPeersRequest())
    return next(one for one in listed.peers if one.peer.peer_id == carried.author.id)


async def test_who_carries_a_peer_is_listed_from_the_first_beat_that_counts_until_it_calls_itself(carried, secure):
    await carried.login()
    await carried.beat()
    assert not (await listing_of(carried)).carried, "a beat that does not count says nothing"
    assert await carried.beat()
    found = await listing_of(carried)
    assert (found.carried, found.carrier_peer_id) == (True, carried.carrier.id)
    carried.carrier = await secure.logged_in()
    assert await carried.beat()
    assert (await listing_of(carried)).carrier_peer_id == carried.carrier.id
    await carried.author.login()
    await carried.author.live()
    found = await listing_of(carried)
    assert (found.carried, found.carrier_peer_id, found.state) == (False, "", pb2.PEER_STATE_LIVE)


async def test_what_passes_the_carrier_opens_nothing_by_another_way(carried, fails_with):
    await carried.login()
    with fails_with(errors.Refused):  # the carrier's certificate is not the author's
        await carried.carrier.publish({"x": bytes(32)}, peer_id=carried.author.id, session_id=carried.session)
    with fails_with(errors.SessionUnknown):  # and the name of a session is no session
        await carried.author.publish({"x": bytes(32)}, session_id=carried.session)


async def test_a_carried_session_beats_publishes_reads_and_logs_out(carried):
    await carried.login()
    assert not await carried.beat(), "the first learns the nonce"
    assert await carried.beat()
    published = await carried.call("PublishFiles", carried.publish_request(), pb2.PublishFilesResponse)
    assert published.catalogue_version
    found = await carried.call("ListFiles", pb2.ListFilesRequest(), pb2.ListFilesResponse)
    assert [file.path for file in found.files] == ["a.txt"]
    logout = pb2.LogoutRequest(peer_id=carried.author.id, session_id=carried.session, request_id="5" * 32)
    await carried.call("Logout", logout, pb2.LogoutResponse)
    assert carried.author.id not in carried.author.network.directory.roster


async def test_each_beat_renews_the_whole_lease_and_there_is_no_grace(carried):
    await carried.login()
    await carried.beat()
    for _ in range(3):
        assert await carried.beat()
        assert leases(carried).state(secret_of(carried)).name == "LIVE"
        assert await lives_for(carried, LEASE - 0.1)
    assert not await lives_for(carried, 0.2)


async def test_a_beat_that_comes_again_changes_nothing(carried):
    await carried.login()
    await carried.beat()
    request = carried.beat_request(free_bytes=7)
    assert await carried.beat(request)
    assert await carried.beat(free_bytes=8)
    assert await lives_for(carried, LEASE - 1)
    nonce = carried.nonce
    assert not await carried.beat(request)
    assert carried.author.network.directory.roster.get(carried.author.id).free_bytes == 8
    assert carried.nonce == nonce, "the beat that is on its way still counts"
    assert not await lives_for(carried, 2), "it has renewed nothing"


async def test_a_beat_that_was_overtaken_changes_nothing(carried):
    await carried.login()
    await carried.beat()
    late, nonce = carried.beat_request(free_bytes=7), carried.nonce
    assert await carried.beat(free_bytes=8)
    assert not await carried.beat(late)
    carried.nonce = nonce
    assert not await carried.beat(free_bytes=9), "nor does a newer one with the older nonce"
    assert carried.author.network.directory.roster.get(carried.author.id).free_bytes == 8


async def test_beats_of_before_a_restart_change_nothing_after_it(carried, secure):
    await carried.login()
    await carried.beat()
    kept = [carried.beat_request(free_bytes=7)]
    assert await carried.beat(kept[0])
    kept.append(carried.beat_request(free_bytes=7))
    await secure.stop_central()
    await secure.start()
    carried.carrier.channel = carried.carrier.connect()
    assert [await carried.beat(request) for request in kept] == [False, False]
    assert await carried.beat(free_bytes=8), "under the same session"


async def test_a_newer_login_ends_the_carried_session_and_the_other_way_round(carried):
    await carried.login()
    await carried.author.login()
    with pytest.raises(errors.SessionSuperseded):
        await carried.beat()
    beats = await carried.author.live()
    await carried.login()
    await carried.beat()
    assert await carried.beat()
    with pytest.raises(Exception, match="newer login"):
        await beats.ended()


async def test_a_login_that_comes_again_ends_no_session(carried):
    request = carried.request(DIRECTORY + "Login", carried.author.login_request())
    await carried.carry(request)
    before = secret_of(carried)
    carried.session = session_name(before)
    answer = carried.read(request, await carried.carry(request), pb2.LoginResponse)
    assert (answer.session_id, secret_of(carried)) == (carried.session, before)


async def test_nobody_gets_in_whose_key_is_no_members(secure, carried):
    stranger = secure.stranger(name="eve")
    stranger.authorities = carried.author.authorities
    with pytest.raises(errors.NotEnrolled):
        await Carried(stranger, carried.carrier).login()
    with pytest.raises(errors.SessionUnknown):
        await Carried(stranger, carried.carrier).call("ListFiles", pb2.ListFilesRequest(), pb2.ListFilesResponse)


async def test_a_member_that_was_revoked_gets_in_through_nobody(secure_network):
    network = await secure_network(sweep_interval=0.05)
    found = Carried(await network.member(), await network.logged_in())
    await found.login()
    network.beside(lambda enrolment: enrolment.revoke(found.author.id, network.clock.wall()))
    await network.until(lambda: found.author.id not in network.directory.roster)
    with pytest.raises(errors.Revoked):
        await found.login()
    with pytest.raises(errors.SessionUnknown):
        await found.beat()


async def test_a_certificate_is_renewed_through_another(carried):
    signed = carried.author.signed(RENEW, RenewResponse())
    request = RenewRequest(signed=signed, public_key=carried.author.identity.public_key)
    before = carried.author.certificates
    answer = await carried.call(RENEW, request, RenewResponse)
    assert tuple(answer.membership.certificates) != before
    await carried.author.take(answer.membership)
    await carried.author.login()


async def test_what_the_carrier_changes_or_invents_is_refused_and_told_under_the_authors_name_to_nobody(carried):
    await carried.login()
    request = carried.request(DIRECTORY + "PublishFiles", carried.publish_request())
    for change in (
        lambda r: setattr(r.signed, "payload", r.signed.payload + b"\x0a\x00"),
        lambda r: setattr(r.signed, "method", DIRECTORY + "Logout"),
        lambda r: setattr(r.signed, "author", carried.carrier.id),
        lambda r: setattr(r.signed, "request_id", "0" * 32),
        lambda r: setattr(r, "public_key", Identity.generate().public_key),
    ):
        changed = pb2.CarryRequest()
        changed.CopyFrom(request)
        change(changed)
        answer = await carried.carry(changed)
        assert isinstance(from_status(Status.FromString(answer.status)), errors.Unauthenticated)
        with pytest.raises(errors.Unauthenticated):  # central's signed no is to what the carrier has made of it
            carried.check(request, answer)
    assert not (await carried.carrier.stub.ListFiles(pb2.ListFilesRequest())).files


async def test_an_author_speaks_for_itself_only(carried):
    await carried.login()
    victim = carried.carrier
    for named in (victim.session_id, session_name(victim.session_id), carried.session):
        publish = carried.publish_request(peer_id=victim.id, session_id=named)
        with pytest.raises(errors.Refused):
            await carried.call("PublishFiles", publish, pb2.PublishFilesResponse)
    with pytest.raises(errors.Refused):
        await carried.beat(peer_id=victim.id)


@pytest.mark.parametrize("method", ["Heartbeat", "Carry", "NoSuchThing", "/relevo.v1.Enrolment/Enroll"])
async def test_what_is_not_carried_is_not_answered(carried, method):
    await carried.login()
    with pytest.raises(errors.NotFound, match="not an RPC that is carried"):
        await carried.call(method, pb2.ListFilesRequest(), pb2.ListFilesResponse)


async def test_a_carried_peers_quota_is_its_own(secure_network):
    network = await secure_network(quotas=Quotas(entries=1))
    carrier, author = await network.logged_in(), await network.member()
    found = Carried(author, carrier)
    await found.login()
    await found.call("PublishFiles", found.publish_request(), pb2.PublishFilesResponse)
    await carrier.publish({"of the carrier": bytes(32)})
    author.version = 0
    with pytest.raises(errors.OverQuota):
        await found.call(
            "PublishFiles",
            author.publish_request({"b": bytes(32), "c": bytes(32)}, session_id=found.session),
            pb2.PublishFilesResponse,
        )


async def test_an_address_that_leads_back_to_central_is_taken_of_peers_on_its_machine_only(carried):
    here, elsewhere = "127.0.0.1:5", "192.0.2.7:5"
    for observed, taken in ((here, True), (elsewhere, False), ("", True), ("not an address", False)):
        login = carried.author.login_request(addresses=["127.0.0.1:22"])
        request = carried.request(DIRECTORY + "Login", login, observed_address=observed)
        answer = await carried.carry(request)
        assert (answer.WhichOneof("outcome") == "answer") is taken, observed
