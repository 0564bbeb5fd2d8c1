"""Daemons over TLS with a real central: joining, renewing while files move, revocation, and a new authority."""

import asyncio
import contextlib
import socket
import time
from dataclasses import replace
from random import Random

import grpc
import pytest

from central.server import running_central
from central.settings import Settings
from core import errors
from core.certificates import Authority, Kind, Subject
from core.connections import congestion_control, connections_to
from core.identity import Identity
from core.rpc import open_channel
from peer.daemon import running_peer
from peer.membership.membership import Membership, load, save
from peer.settings import ServeSettings, control_address, recall
from peer.work.transfers import State
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import FileEntry
from relevo.v1.peer_control_pb2 import GetStatusRequest
from relevo.v1.peer_control_pb2_grpc import PeerControlStub
from relevo.v1.peer_relay_pb2 import PeerRelayListFilesRequest

FAST = Settings(beat_interval=0.2, sweep_interval=0.05, drain=0.5)
BYTES = Random(1).randbytes(8 << 20)


async def eventually(check, seconds=20.0):
    """Waits until `check` answers something true, and returns it."""
    async with asyncio.timeout(seconds):
        while not (found := check()):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)
        return found


class Network:
    """A real central, and daemons that come and go with their homes."""

    def __init__(self, base, stack):
        self.base, self.stack = base, stack
        self.central = None

    async def open(self, **settings):
        self.central = await self.stack.enter_async_context(
            running_central(self.base / "central", "127.0.0.1:0", replace(FAST, **settings))
        )

    @contextlib.asynccontextmanager
    async def daemon(self, name, **settings):
        """Runs a daemon on the home `name`, with nothing but what the home remembers unless told."""
        shared = self.base / f"{name}-shared"
        shared.mkdir(exist_ok=True)
        home = self.base / name
        fields = {"home": home, "shared": shared, "name": name, "centrals": recall(home).centrals}
        async with running_peer(ServeSettings(**{**fields, "listen": "127.0.0.1:0", **settings})) as peer:
            yield peer

    async def join(self, name, files=(), stack=None):
        """Starts a daemon on a new home with a token of its own, until `stack` closes."""
        shared = self.base / f"{name}-shared"
        shared.mkdir()
        for path, data in dict(files).items():
            (shared / path).write_bytes(data)
        token = (await self.central.invite()).to_text()
        peer = await (stack or self.stack).enter_async_context(self.daemon(name, centrals=(), join=token))
        await peer.session.wait_live()
        await peer.library.wait_scanned()
        for file in peer.library.files.values():
            await peer.publisher.published(file.path, file.content_id, 10)
        return peer

    async def joined(self, name, files=()):
        """Makes a home a member and stops its daemon again; returns its identity."""
        async with contextlib.AsyncExitStack() as stack:
            return (await self.join(name, files, stack)).identity

    async def revoke(self, identity):
        now = time.time()
        await self.central.network.run(lambda network: network.revoke(identity.peer_id, now))

    def authority(self):
        return Authority.from_pem((self.base / "central" / "authorities" / "1.pem").read_bytes())


@pytest.fixture
async def network(tmp_path):
    async with asyncio.timeout(60), contextlib.AsyncExitStack() as stack:
        yield Network(tmp_path, stack)


async def fetch(peer, path, directory):
    """Downloads as `relevo get` does, and returns the transfer."""
    directory.mkdir(exist_ok=True)
    response, _ = await peer.routes.list_files(pb2.ListFilesRequest(reference=path))
    (found,) = response.files
    entry = FileEntry(path=found.path, content_id=found.content_id, size_bytes=found.size_bytes)
    return peer.downloads.start(entry, str(directory))


async def status_of(peer):
    """Returns what `relevo status` shows of the membership."""
    async with open_channel(control_address(peer.settings.home)) as channel:
        return (await PeerControlStub(channel).GetStatus(GetStatusRequest())).membership


def losses_of(peer):
    """Notes each time that the session is not live."""
    noted, real = [], peer.session._set_live

    def set_live(*, live, problem=""):
        if not live:
            noted.append(problem)
        real(live=live, problem=problem)

    peer.session._set_live = set_live
    return noted


def suspects_of(central):
    """Notes each session whose heartbeat broke before another stood in its place."""
    noted, leases = [], central.directory.roster.leases
    real = leases.broken

    def broken(session, stream, now):
        became = real(session, stream, now)
        noted.extend([session] * became)
        return became

    leases.broken = broken
    return noted


def aged(network, identity, days):
    """The membership that a home would hold if its certificate had been made so many days ago."""
    message = load(network.base / "ana", identity.peer_id).to_message()
    made = time.time() - days * 86_400
    own = network.authority().issue(Subject(Kind.PEER, identity.peer_id), identity.public_key, made, 86_400.0)
    del message.certificates[:]
    message.certificates.append(own)
    return Membership.from_message(message, identity.peer_id)


async def test_a_token_is_needed_once_and_neighbours_know_each_other_by_their_ids(network, tmp_path, monkeypatch):
    monkeypatch.setattr("peer.directory.routes.PATIENCE", 20.0)  # so that a busy machine has nobody else asked
    await network.open()
    identity = await network.joined("ana", {"a.txt": b"ana's"})
    ben = await network.join("ben")
    async with network.daemon("ana") as ana:
        await ana.session.wait_live()
        assert ana.identity.peer_id == identity.peer_id
        member = await status_of(ana)
        assert (member.network_id, member.revoked_count) == (network.central.network_id, 0)
        assert member.certificate_expire_time.seconds == ana.credentials.membership.expires
        assert time.time() < member.renew_time.seconds < member.certificate_expire_time.seconds
        await eventually(lambda: ben.routes.neighbours.primary.peer_id == identity.peer_id)
        transfer = await fetch(ben, "a.txt", tmp_path / "got")
        await asyncio.wait([transfer.task])
        assert (tmp_path / "got" / "a.txt").read_bytes() == b"ana's"
        assert ben.routes.last.way.contact.peer_id == identity.peer_id


async def test_a_renewal_during_a_download_breaks_nothing_and_nobody_is_missed(network, tmp_path):
    await network.open(certificate_life=6.0, beat_interval=1.0)  # leases that a busy machine keeps
    ana = await network.join("ana", {"a.bin": BYTES})
    ben = await network.join("ben")
    real, turn = ana.library.read_run, asyncio.Lock()

    async def slowly(*arguments):
        async with turn:
            await asyncio.sleep(0.07)
        return await real(*arguments)

    ana.library.read_run = slowly
    losses, suspects = (losses_of(ana), losses_of(ben)), suspects_of(network.central)
    logins = ana.session.login, ben.session.login
    before = [peer.credentials.membership.certificates for peer in (ana, ben)]
    expiry = max(peer.credentials.membership.expires for peer in (ana, ben))
    transfer = await fetch(ben, "a.bin", tmp_path / "got")
    for peer, certificate in zip((ana, ben), before, strict=True):
        await eventually(lambda: peer.credentials.membership.certificates != certificate)  # noqa: B023 - waited for
    await eventually(lambda: time.time() > expiry)
    assert not transfer.task.done(), "it was to last longer than the first certificates"
    del ana.library.read_run
    await asyncio.wait([transfer.task])
    assert (transfer.state, transfer.error) == (State.DONE, None)
    assert (tmp_path / "got" / "a.bin").read_bytes() == BYTES
    assert [source.dropped_reason for source in transfer.progress.sources.values()] == [""]
    assert losses == ([], [])
    assert suspects == []
    assert (ana.session.login, ben.session.login) == logins


async def test_a_peer_that_was_off_for_a_week_comes_back_by_itself(network, caplog):
    await network.open()
    identity = await network.joined("ana")
    old = aged(network, identity, 8)
    assert old.expired(time.time())
    save(network.base / "ana", old)
    async with network.daemon("ana") as ana:
        await ana.session.wait_live()
        assert not ana.credentials.membership.expired(time.time())
    assert "not logged in" not in caplog.text  # it renews first, and does not wait to be refused
    assert not load(network.base / "ana", identity.peer_id).expired(time.time())


async def test_a_revoked_peer_says_so_in_one_line_and_is_refused_by_the_others(network):
    await network.open()
    ana, ben = await network.join("ana", {"a.txt": b"a"}), await network.join("ben")
    eva = await network.join("eva")
    by_eva = eva.channels.peer(ana.contact().addresses[0], ana.identity.peer_id)
    assert await by_eva.ListFiles(PeerRelayListFilesRequest(), timeout=5)
    await network.revoke(eva.identity)
    problem = await eventually(lambda: "revoked" in eva.session.problem and eva.session.problem)
    assert problem.startswith("the operator has revoked this peer; to come back, ask the operator for a token")
    assert "\n" not in problem
    for peer in (ana, ben):
        await eventually(lambda peer=peer: eva.identity.peer_id in peer.credentials.trust().revoked)
        assert peer.session.live
    with pytest.raises(grpc.RpcError, match="revoked"):
        await by_eva.ListFiles(PeerRelayListFilesRequest(), timeout=5)
    await ana.credentials.close()
    assert load(network.base / "ana", ana.identity.peer_id).trust.revoked == {eva.identity.peer_id}


async def test_a_download_of_a_peer_that_is_revoked_meanwhile_says_why_it_ends(network, tmp_path):
    await network.open()
    ana, eva = await network.join("ana", {"a.bin": BYTES}), await network.join("eva")
    true_block, begun, go_on = ana.library.read_run, asyncio.Event(), asyncio.Event()

    async def held_up(*wanted):
        begun.set()
        await go_on.wait()
        return await true_block(*wanted)

    ana.library.read_run = held_up
    transfer = await fetch(eva, "a.bin", tmp_path / "got")
    await begun.wait()
    await network.revoke(eva.identity)
    await eventually(lambda: eva.identity.peer_id in ana.credentials.trust().revoked)
    go_on.set()
    await asyncio.wait([transfer.task])
    assert transfer.state is State.FAILED
    assert isinstance(transfer.error, errors.Revoked), transfer.error
    assert "with a new home" in str(transfer.error)


async def test_a_member_whose_key_is_gone_is_not_given_another(network):
    await network.open()
    await network.joined("ana")
    key = network.base / "ana" / "key.pem"
    key.unlink()
    with pytest.raises(errors.NotPossible, match=r"key\.pem, the key of this peer, is gone: restore it"):
        async with network.daemon("ana"):
            pass
    assert not key.exists()


async def test_a_peer_with_an_expired_certificate_that_was_revoked_meanwhile_learns_why(network):
    await network.open()
    identity = await network.joined("ana")
    await network.revoke(identity)
    save(network.base / "ana", aged(network, identity, 8))
    async with network.daemon("ana") as ana:
        await eventually(lambda: "the operator has revoked this peer" in ana.session.problem)
        assert not ana.session.live


async def test_a_new_authority_is_followed_live_and_files_still_move(network, tmp_path):
    await network.open()
    ana, ben = await network.join("ana", {"a.txt": b"ana's"}), await network.join("ben")
    losses = losses_of(ana), losses_of(ben)
    now = time.time()
    await network.central.network.run(lambda found: found.authorities.rotate(now))
    for peer in (ana, ben):
        await eventually(lambda peer=peer: len(peer.credentials.trust().authorities) == 2)
        peer.renewal.due = now  # it would be within ten minutes
        peer.renewal._wanted.set()
        await eventually(lambda peer=peer: peer.credentials.membership.of_issuing_authority())
    late = await network.join("late")
    for peer in (ben, late):
        transfer = await fetch(peer, "a.txt", tmp_path / peer.settings.name)
        await asyncio.wait([transfer.task])
        assert transfer.state is State.DONE
    assert losses == ([], [])


async def test_whoever_connects_to_a_peer_is_sent_blocks_by_a_congestion_control_that_yields(network):
    await network.open()
    ana = await network.join("ana")
    with socket.create_connection(("127.0.0.1", ana.server.port)) as one:
        mine = "ipv4:{}:{}".format(*one.getsockname())
        (used,) = await eventually(lambda: [congestion_control(theirs) for theirs in connections_to(mine)])
    assert not used.startswith(b"bbr")


async def test_whoever_answers_at_centrals_address_with_another_authority_is_named(network, tmp_path):
    await network.open()
    await network.joined("ana")
    async with contextlib.AsyncExitStack() as stack:
        other = await stack.enter_async_context(running_central(tmp_path / "other", "127.0.0.1:0", FAST))
        async with network.daemon("ana", centrals=(other.address,)) as ana:
            problem = await eventually(
                lambda: "not central of this network" in ana.session.problem and ana.session.problem
            )
            assert f"whoever answers at {other.address} is not central of this network" in problem
            assert not ana.session.live


async def test_a_token_that_was_used_is_refused_and_leaves_no_membership(network):
    await network.open()
    token = (await network.central.invite()).to_text()
    async with network.daemon("ana", centrals=(), join=token):
        pass
    with pytest.raises(errors.Refused, match="ask the operator for another"):
        async with network.daemon("ben", centrals=(), join=token):
            pass
    ben = Identity.load_or_create(network.base / "ben" / "key.pem")
    assert load(network.base / "ben", ben.peer_id) is None
    with pytest.raises(errors.NotPossible, match="relevo serve DIR --join TOKEN"):
        async with network.daemon("ben"):
            pass
