"""Who gets in, who stays in, who is put out: a real central over TLS, and peers with keys of their own."""

import asyncio

import grpc
import pytest

from central.network.enrolment import Enrolment
from central.network.register import MARGIN
from central.server import _next, running_central
from central.settings import Settings
from core import errors
from core.certificates import Authority, Kind, Subject, certificate_of, to_pem
from core.identity import Identity
from core.signing import WINDOW_SECONDS, sign_request
from core.status import from_rpc_error
from core.tls import Material
from core.trust import Trust
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1 import content_pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub
from relevo.v1.enrolment_pb2 import EnrollRequest, RenewResponse

HOUR, DAY = 3600.0, 86_400.0
WORDS = "ask for another"


def members(network):
    return network.beside(lambda enrolment: enrolment.register.members())


async def test_a_key_with_an_invitation_becomes_a_member_and_logs_in(secure):
    peer = secure.stranger(name="ana")
    membership = await peer.enroll(await secure.central.invite())
    assert membership.network_id == secure.central.network_id
    assert membership.enrolment_port == secure.central.enrolment_port
    assert membership.trust.version == secure.central.network.told().version
    certificate = certificate_of(to_pem(membership.certificates[:1]))
    assert certificate.subject == Subject(Kind.PEER, peer.id)
    assert certificate.not_after == pytest.approx(secure.clock.wall() + DAY, abs=2)
    await peer.login()
    (member,) = members(secure)
    assert (member.peer_id, member.name) == (peer.id, "ana")
    assert member.certificate_end == secure.clock.wall() + DAY


async def test_a_hundred_keys_at_once_with_a_token_for_one_become_one_member(secure):
    token = await secure.central.invite()
    strangers = [secure.stranger() for _ in range(100)]
    stub = secure.enrolment((token.authority,))
    answers = await asyncio.gather(
        *(stub.Enroll(peer.enroll_request(token)) for peer in strangers), return_exceptions=True
    )
    refused = [from_rpc_error(answer) for answer in answers if isinstance(answer, grpc.RpcError)]
    assert len(refused) == 99
    assert {type(error) for error in refused} == {errors.Refused}
    assert len({str(error) for error in refused}) == 1
    assert len(members(secure)) == 1


async def test_a_thousand_enrolments_with_one_token_make_one_member(secure):
    token = await secure.central.invite()
    stub = secure.enrolment((token.authority,))
    let_in = 0
    for _ in range(10):
        requests = [secure.stranger().enroll_request(token) for _ in range(100)]
        answers = await asyncio.gather(*map(stub.Enroll, requests), return_exceptions=True)
        let_in += sum(not isinstance(answer, grpc.RpcError) for answer in answers)
    assert (let_in, len(members(secure))) == (1, 1)


async def test_the_same_key_with_the_same_invitation_is_answered_again_and_uses_nothing_up(secure, fails_with):
    token = await secure.central.invite(uses=2)
    peer = secure.stranger()
    first = await peer.enroll(token)
    again = await peer.enroll(token)
    assert first.certificates[0] != again.certificates[0]
    await secure.stranger().enroll(token)
    with fails_with(errors.Refused, WORDS):
        await secure.stranger().enroll(token)
    secure.clock.advance(HOUR)
    await peer.enroll(token)
    assert len(members(secure)) == 2


async def test_every_failure_of_an_invitation_sounds_the_same(secure):
    used, late, right = (
        await secure.central.invite(),
        await secure.central.invite(ttl=60),
        await secure.central.invite(),
    )
    await secure.stranger().enroll(used)
    secure.clock.advance(61)
    said = set()
    for token, changed in (
        (used, {}),
        (late, {}),
        (right, {"secret": bytes(16)}),
        (right, {"invitation_id": bytes(8)}),
        (right, {"secret": used.secret}),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await secure.stranger().enroll(token, **changed)
        said.add((caught.value.code(), caught.value.details(), str(caught.value.trailing_metadata())))
    assert len(said) == 1, said
    assert len(members(secure)) == 1


async def test_a_key_that_was_revoked_gets_in_by_no_invitation(secure, fails_with):
    peer = await secure.member()
    secure.beside(lambda enrolment: enrolment.revoke(peer.id, secure.clock.wall()))
    with fails_with(errors.Revoked):
        await peer.enroll(await secure.central.invite())
    with fails_with(errors.Revoked):
        await peer.renew()


async def test_a_member_renews_however_long_it_was_off(secure):
    peer = await secure.member()
    secure.clock.advance(30 * DAY)  # of which handshakes know nothing: central's own certificate stays good for them
    membership = await secure.enrolment(peer.authorities).Renew(peer.renew_request())
    certificate = certificate_of(to_pem(membership.membership.certificates[:1]))
    assert certificate.not_after == pytest.approx(secure.clock.wall() + DAY, abs=2)


async def test_a_key_that_never_joined_is_told_so(secure, fails_with):
    peer = secure.stranger()
    peer.authorities = ((await secure.central.invite()).authority,)
    with fails_with(errors.NotEnrolled, "invite"):
        await peer.renew()


async def test_a_request_replayed_by_somebody_else_gives_a_certificate_that_is_of_no_use_to_them(secure):
    peer = secure.stranger()
    token = await secure.central.invite()
    request = peer.enroll_request(token)
    stub = secure.enrolment((token.authority,))
    for _ in range(2):
        answer = await stub.Enroll(request)
        shown = certificate_of(to_pem(answer.membership.certificates[:1]))
        assert shown.subject.label == peer.id
    assert len(members(secure)) == 1


@pytest.mark.parametrize("when", [-WINDOW_SECONDS - 1, WINDOW_SECONDS + 1])
async def test_a_request_from_another_time_is_refused_and_told_centrals(secure, fails_with, when):
    peer = secure.stranger()
    token = await secure.central.invite()
    request = peer.enroll_request(token)
    secure.clock.advance(when)
    with fails_with(errors.ClockSkew) as caught:
        await secure.enrolment((token.authority,)).Enroll(request)
    assert float(caught.error.metadata["central_time"]) == pytest.approx(secure.clock.wall(), abs=1)


async def test_nobody_enrols_or_renews_in_the_name_of_another_key(secure, fails_with):
    victim, thief = await secure.member(), Identity.generate()
    token = await secure.central.invite()
    stub = secure.enrolment((token.authority,))
    thief.peer_id = victim.id  # so that what it signs says so, too
    forged = sign_request(thief, "/relevo.v1.Enrolment/Renew", b"", secure.clock.wall())
    for key in (victim.identity.public_key, thief.public_key):
        request = victim.renew_request()
        request.signed.CopyFrom(forged)
        request.public_key = key
        with fails_with(errors.Unauthenticated):
            await stub.Renew(request)
    for_another_rpc = EnrollRequest(
        signed=victim.signed("/relevo.v1.Enrolment/Renew", RenewResponse()), public_key=victim.identity.public_key
    )
    with fails_with(errors.Unauthenticated):
        await stub.Enroll(for_another_rpc)


async def test_the_authority_signs_no_name_but_the_keys_own(secure):
    """The name in a certificate is made from the key in the request: nothing else that is sent has a say in it."""
    victim, thief = await secure.member(), secure.stranger(name=f"{Identity.generate().peer_id}.peer")
    membership = await thief.enroll(await secure.central.invite())
    assert certificate_of(to_pem(membership.certificates[:1])).subject.label == thief.id != victim.id


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "\x1b[2J"}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"invitation_id": b"x"}, "invitation_id"),
        ({"secret": b""}, "secret"),
    ],
)
async def test_a_field_that_breaks_its_rule_is_named(secure, fails_with, changed, field):
    with fails_with(errors.InvalidInput) as caught:
        await secure.stranger().enroll(await secure.central.invite(), **changed)
    assert caught.error.field == field


async def test_who_comes_too_often_is_told_when_to_come_back(secure_network, fails_with):
    network = await secure_network(enrolment_rate=0.2, enrolment_total_rate=100.0)
    peer = await network.member()
    await peer.renew()
    with fails_with(errors.Busy) as caught:
        await peer.renew()
    assert 0 < caught.error.retry_after <= 5
    network.clock.advance(caught.error.retry_after)
    await peer.renew()


async def test_the_enrolment_port_serves_nothing_else_and_the_main_port_nobody_without_a_certificate(secure):
    token = await secure.central.invite()
    stranger = Material(b"", b"", to_pem([token.authority]))
    joining = CentralDirectoryStub(secure.open(secure.enrolment_address, stranger))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await joining.ListPeers(pb2.ListPeersRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    main = CentralDirectoryStub(secure.open(secure.central.address, stranger))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await main.ListPeers(pb2.ListPeersRequest(), timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    member = await secure.member()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await type(secure.enrolment(()))(member.channel).Renew(member.renew_request())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("act", ["login", "logout", "beat", "beat later", "publish", "report"])
async def test_whoever_names_another_peer_is_refused_even_with_its_session_and_the_victim_lives(
    secure, fails_with, act
):
    victim, thief = await secure.logged_in(), await secure.logged_in()
    beats = await victim.live()
    await victim.publish({"a.txt": bytes(32)})
    stolen = {"peer_id": victim.id, "session_id": victim.session_id}
    with fails_with(errors.Refused, "another peer"):
        if act == "login":
            await thief.stub.Login(victim.login_request())
        elif act == "logout":
            await thief.logout(**stolen)
        elif act == "beat":
            await thief.stream().beat(**stolen)
        elif act == "beat later":
            await (await thief.live()).beat(**stolen)
        elif act == "publish":
            await thief.publish({"b.txt": bytes(32)}, **stolen, base_version=0)
        else:
            await thief.stub.ReportHolder(
                pb2.ReportHolderRequest(
                    **stolen, holder_peer_id=thief.id, content_id=bytes(32), fault=pb2.HOLDER_FAULT_WRONG_BYTES
                )
            )
    await beats.beat()
    assert secure.state(victim) == "LIVE"
    files = (await victim.stub.ListFiles(pb2.ListFilesRequest())).files
    assert [file.path for file in files] == ["a.txt"]


async def test_a_certificate_that_has_expired_counts_for_no_call_and_no_beat_over_its_old_connection(
    secure, fails_with
):
    peer = await secure.logged_in()
    beats = await peer.live()
    secure.clock.advance(DAY - 1)
    await beats.beat()
    await peer.stub.ListPeers(pb2.ListPeersRequest())
    secure.clock.advance(2)
    with fails_with(errors.CertificateExpired):
        await peer.stub.ListPeers(pb2.ListPeersRequest())
    with fails_with(errors.CertificateExpired):
        await beats.beat()


async def test_revoking_beside_a_running_central_ends_the_session_and_tells_everybody(secure_network, fails_with):
    network = await secure_network(sweep_interval=0.05)
    peer, other = await network.logged_in(), await network.logged_in()
    await peer.publish({"a.txt": bytes(32)})
    beats, watching = await peer.live(), await other.live()
    network.beside(lambda enrolment: enrolment.revoke(peer.id, network.clock.wall()))
    with fails_with(errors.Revoked):
        await beats.ended()
    told = await watching.until(lambda answer: peer.id in answer.trust.revoked_peer_ids)
    assert told.trust.version == network.central.network.told().version
    if told.neighbours.HasField("primary"):
        await watching.until(lambda answer: not answer.neighbours.HasField("primary"))
    assert peer.id not in network.directory.roster
    assert not (await other.stub.ListFiles(pb2.ListFilesRequest())).files
    for call in (peer.stub.ListPeers(pb2.ListPeersRequest()), peer.login()):
        with fails_with(errors.Revoked):
            await call


async def test_revoked_while_central_is_down_is_out_before_the_first_call(secure):
    peer, other = await secure.logged_in(), await secure.member()
    await secure.stop_central()
    secure.beside(lambda enrolment: enrolment.revoke(peer.id, secure.clock.wall()))
    await secure.start()
    assert peer.id not in secure.directory.roster
    other.channel = other.connect()
    assert not (await other.stub.ListPeers(pb2.ListPeersRequest())).peers


async def test_a_session_that_slips_in_while_its_peer_is_revoked_ends_at_the_next_look(secure, fails_with):
    peer = await secure.logged_in()
    secure.beside(lambda enrolment: enrolment.revoke(peer.id, secure.clock.wall()))
    await secure.central.network.refresh()
    assert peer.id in secure.directory.roster
    with fails_with(errors.Revoked):
        await peer.stream().ended()
    await secure.look()
    assert peer.id not in secure.directory.roster


async def test_trust_comes_with_a_beat_only_to_whom_goes_by_another(secure):
    peer = await secure.logged_in()
    beats = peer.stream()
    version = secure.central.network.told().version
    answer = await beats.beat(trust_version=0)
    assert (answer.trust.version, len(answer.trust.authorities)) == (version, 1)
    assert not (await beats.beat(trust_version=version)).HasField("trust")


async def test_every_beat_is_told_where_certificates_are_renewed(secure):
    peer = await secure.logged_in()
    assert (await peer.stream().beat()).enrolment_port == secure.central.enrolment_port > 0


async def test_revocations_travel_until_the_certificates_have_expired_and_count_at_central_for_ever(secure):
    peer = await secure.member()
    secure.beside(lambda enrolment: enrolment.revoke(peer.id, secure.clock.wall()))
    await secure.look()
    network = secure.central.network
    told = network.told()
    assert told.revoked == {peer.id}
    secure.clock.advance(DAY + MARGIN - 1)
    await secure.look()
    assert network.told() == told
    secure.clock.advance(2)
    await secure.look()
    assert network.told().version > told.version
    assert not network.told().revoked
    assert network.trust().revoked == {peer.id}


async def test_an_authority_changes_without_cutting_anybody_off(secure_network):
    network = await secure_network(certificate_life=1200.0)
    peer = await network.logged_in()
    old = peer.authorities
    beats = await peer.live()
    assert network.beside(lambda enrolment: enrolment.authorities.rotate(network.clock.wall())) == 2
    await network.look()
    told = (await beats.until(lambda answer: len(answer.trust.authorities) == 2)).trust
    assert told.authorities[1] == old[0]
    assert network.central.network_id == Trust.from_message(told).network_id

    # Who only knows the old authority, and shows a certificate of it, still gets in...
    peer.channel = peer.connect()
    await peer.stub.ListPeers(pb2.ListPeersRequest())
    # ...renews, and with its new certificate still gets in, trusting the old authority only.
    renewed = await network.enrolment(old).Renew(peer.renew_request())
    before = peer.certificates
    await peer.take(renewed.membership, trusting=False)
    assert peer.authorities == old
    await peer.stub.ListPeers(pb2.ListPeersRequest())

    # When everything that the old one issued has expired, it counts for nobody.
    network.clock.advance(1200 + MARGIN + 1)
    await network.look()
    assert network.central.network.told().authorities == (told.authorities[0],)
    late = network.stranger(identity=peer.identity)
    late.certificates, late.authorities = before, tuple(told.authorities)
    late.channel = late.connect()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await late.stub.ListPeers(pb2.ListPeersRequest(), timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    # Who slept through all of it renews with its key all the same, and with the old authority only.
    assert (await network.enrolment(old).Renew(late.renew_request())).membership.trust.authorities == [
        told.authorities[0]
    ]


async def test_central_renews_its_own_certificate_by_itself(secure):
    def shown():
        return certificate_of(secure.central.network.material().chain)

    first = shown()
    assert first.subject == Subject(Kind.CENTRAL, secure.central.network_id)
    secure.clock.advance(DAY * 2 / 3 - 1)
    await secure.look()
    assert shown() == first
    secure.clock.advance(2)
    await secure.look()
    assert shown().not_after == pytest.approx(first.not_after + DAY * 2 / 3 + 1, abs=2)


async def test_another_networks_certificate_is_refused_in_the_handshake(secure):
    peer = await secure.member()
    rogue = Authority.create(secure.clock.wall(), DAY)
    peer.certificates = (rogue.issue(Subject(Kind.PEER, peer.id), peer.identity.public_key, secure.clock.wall(), DAY),)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await CentralDirectoryStub(peer.connect()).ListPeers(pb2.ListPeersRequest(), timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_network_outlives_its_central(secure):
    peer = await secure.member()
    network_id = secure.central.network_id
    await secure.stop_central()
    await secure.start()
    assert secure.central.network_id == network_id
    assert not secure.central.network.created
    peer.channel = peer.connect()
    await peer.login()


async def test_without_a_host_of_its_own_central_names_this_machines_addresses_in_tokens(tmp_path):
    async with running_central(tmp_path / "any", listen="[::]:0") as central:
        token = await central.invite()
        assert not any(address.startswith(("[::]", "0.0.0.0")) for address in token.addresses)
        given = await central.invite(addresses=("central.example:7400",))
        assert given.addresses == ("central.example:7400",)
    async with running_central(tmp_path / "home", listen="127.0.0.1:0") as central:
        assert (await central.invite()).addresses == (central.address,)


def test_the_enrolment_port_is_the_next_one_where_there_is_one():
    assert [_next(port) for port in (7400, 65_535, 0)] == [7401, 0, 0]


async def test_enrolment_listens_where_it_is_told_to_and_says_so_when_it_cannot(tmp_path):
    async with running_central(tmp_path / "one") as first:
        with pytest.raises(errors.NotPossible, match="--enrolment-port"):
            async with running_central(tmp_path / "two", enrolment_port=first.enrolment_port):
                pass
        chosen = first.enrolment_port
    async with running_central(tmp_path / "one", enrolment_port=chosen) as second:
        assert second.enrolment_port == chosen


async def test_an_answer_stays_small_however_many_are_revoked(secure):
    peer = await secure.member()

    def revoke_many(enrolment: Enrolment):
        with enrolment.register.changing():
            for number in range(500):
                peer_id = content_pb2.PeerInfo(
                    peer_id=f"{number:052d}".translate(str.maketrans("0189", "abcd"))
                ).peer_id
                enrolment.register.add_member(peer_id, "x", 1.0)
                enrolment.register.certified(peer_id, secure.clock.wall() + DAY)
                enrolment.register.revoke(peer_id, 1.0)

    secure.beside(revoke_many)
    await secure.look()
    membership = await peer.renew()
    assert membership.trust.version == 0
    assert membership.ByteSize() < 4096
    await peer.login()
    assert len((await peer.stream().beat()).trust.revoked_peer_ids) == 500


def test_the_default_life_and_rates_are_those_in_the_docs():
    settings = Settings()
    assert (settings.certificate_life, settings.enrolment_rate, settings.enrolment_total_rate) == (DAY, 10.0, 100.0)
