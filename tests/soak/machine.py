"""A state machine: one central and several peers in this process, in virtual time, held against a small model."""

import asyncio
import shutil
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import grpc
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from central.decode import END_PLACEMENT
from central.store.sqlite_schema import FILE_NAME
from core import errors
from core.signing import new_request_id
from core.status import from_rpc_error
from relevo.v1 import central_directory_pb2 as pb2
from tests.central.conftest import PLACE_FILE, Network, entry
from tests.soak.model import GRACE, LEASE, LONGEST_DOUBT, Model, Promise, size_of

PEERS = 5
CONTENTS = [bytes([number]) * 32 for number in range(1, 6)]
PATHS = ["a.txt", "b/ñ.txt", "c.bin", "d/e/f"]
# What is repeated later than this may have been forgotten.
REMEMBERED = 590.0
# How often each rule was taken, and what some came to, over all runs in this process.
TAKEN, CAME_TO = Counter(), Counter()

peers = st.integers(0, PEERS - 1)
picks = st.integers(0, 59)
somebody_is_live = precondition(lambda self: self.model.live())
contents = st.sampled_from(CONTENTS)
files = st.dictionaries(st.sampled_from(PATHS), contents, max_size=3)


class Relevo(RuleBasedStateMachine):
    """Every rule is something that happens in a network; after each, central must answer what the model says."""

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.base = Path(tempfile.mkdtemp(prefix="relevo-soak-"))
        self.network = Network(self.base / "0")
        self.network.settings = replace(self.network.settings, sweep_interval=3600.0)  # only `wait` sweeps
        self.starts = 0
        self.changes = 0  # since the last start
        self.runner.run(self.network.start())
        self.streams = {}
        self.answered = []  # (time, RPC, request, answer)
        self.older = []  # (peer, session, how it is refused)
        addresses = [["192.0.2.1:1"] for _ in range(PEERS - 1)] + [[]]  # nobody can dial the last one
        self.peers = [self.network.peer(addresses=each) for each in addresses]
        self.model = Model([peer.id for peer in self.peers])
        for number in range(3):
            self.log_in(number, True)

    def teardown(self):
        self.runner.run(self.network.stop())
        self.runner.close()
        shutil.rmtree(self.base)

    @property
    def now(self):
        return self.network.clock.now

    def member(self, number):
        return self.model.members[self.peers[number].id]

    def one_live(self, pick):
        live = [number for number in range(PEERS) if self.member(number).live]
        return live[pick % len(live)]

    def call(self, rpc, request):
        """Calls central, which must answer, and remembers the request."""
        answer = self.runner.run(self.called(rpc, request))
        self.answered.append((self.now, rpc, request, answer))
        self.changes += 1
        return answer

    async def called(self, rpc, request):
        return await getattr(self.network.stub, rpc)(request, timeout=20)

    def refused(self, work, *kinds):
        """Does what must fail in one of these ways."""
        try:
            answer = self.runner.run(work)
        except grpc.RpcError as error:
            found = from_rpc_error(error)
            if isinstance(found, kinds):
                return
            raise AssertionError(f"refused, but like this: {found!r}") from error
        raise AssertionError(f"this was not refused: {answer}")

    # What peers do.

    @rule(number=peers, beating=st.booleans())
    def log_in(self, number, beating):
        TAKEN["log in"] += 1
        peer, member = self.peers[number], self.member(number)
        answer = self.call("Login", peer.login_request())
        assert answer.catalogue_version == member.version
        assert answer.session_id != member.session
        if member.live:
            self.older.append((number, member.session, errors.SessionSuperseded))
        self.streams.pop(number, None)  # central ends it
        member.logs_in(answer.session_id, self.now)
        peer.session_id = answer.session_id
        if beating:
            self.beats(number)

    @somebody_is_live
    @rule(pick=picks)
    def log_out(self, pick):
        TAKEN["log out"] += 1
        number = self.one_live(pick)
        peer, member = self.peers[number], self.member(number)
        request = pb2.LogoutRequest(peer_id=peer.id, session_id=member.session, request_id=new_request_id())
        self.call("Logout", request)
        self.ends(number)

    def ends(self, number):
        member = self.member(number)
        member.live = False
        self.streams.pop(number, None)
        self.older.append((number, member.session, errors.SessionUnknown))

    @somebody_is_live
    @rule(pick=picks)
    def beat(self, pick):
        """On its stream, or on a new one."""
        TAKEN["beat"] += 1
        self.beats(self.one_live(pick))

    def beats(self, number):
        member = self.member(number)
        if number not in self.streams:
            self.streams[number] = self.peers[number].stream()
        answer = self.runner.run(self.streams[number].beat())
        assert answer.catalogue_version == member.version
        member.shows(self.now)
        return answer

    @somebody_is_live
    @rule(pick=picks)
    def break_stream(self, pick):
        TAKEN["break stream"] += 1
        number = self.one_live(pick)
        if number not in self.streams:
            self.beats(number)
        self.streams.pop(number).call.cancel()
        self.member(number).falls_silent(self.now)

    @somebody_is_live
    @rule(pick=picks)
    def beat_out_of_order(self, pick):
        """A beat that was sent before comes once more: the stream ends, and the session has its grace."""
        TAKEN["late beat"] += 1
        number = self.one_live(pick)
        self.beats(number)
        beats = self.streams.pop(number)

        async def again():
            beats.sequence -= 1
            await beats.send()
            await beats.ended()

        self.refused(again(), errors.InvalidInput)
        self.member(number).falls_silent(self.now)

    @somebody_is_live
    @rule(pick=picks, added=st.dictionaries(st.sampled_from(PATHS), contents, min_size=1, max_size=3))
    def share(self, pick, added):
        TAKEN["share"] += 1
        number = self.one_live(pick)
        self.publishes(number, added=added)

    @somebody_is_live
    @rule(pick=picks, added=files, removed=st.sets(st.sampled_from(PATHS), max_size=2), anew=st.booleans())
    def publish(self, pick, added, removed, anew):
        TAKEN["publish"] += 1
        number = self.one_live(pick)
        self.publishes(number, added=added, removed=removed, anew=anew and not len(added) % 2)

    def publishes(self, number, *, added=None, removed=(), stored=(), dropped=(), declined=(), anew=False):
        added, member = added or {}, self.member(number)
        base = 0 if anew else member.version
        request = pb2.PublishFilesRequest(
            peer_id=self.peers[number].id,
            session_id=member.session,
            request_id=new_request_id(),
            base_version=base,
            added=[entry(path, content, size_of(content)) for path, content in added.items()],
            removed_paths=sorted(set(removed) - added.keys()),
            stored_content_ids=sorted(stored),
            dropped_content_ids=sorted(set(dropped) - set(stored)),
            declined=[pb2.DeclinedCopy(placement_id=one, reason="full") for one in declined],
        )
        CAME_TO["stored"] += bool(stored)
        answer = self.call("PublishFiles", request)
        assert answer.catalogue_version == base + 1 or not base
        self.model.applies(
            self.peers[number].id,
            base,
            answer.catalogue_version,
            added=list(added.items()),
            removed=removed,
            stored=stored,
            dropped=dropped,
        )
        self.model.goes_on(self.peers[number].id, added, self.promised(number))

    def rows(self, query, *values):
        """Asks central's database, past central."""
        with closing(sqlite3.connect(self.network.data / FILE_NAME)) as db:
            return db.execute(query, values).fetchall()

    def promised(self, number):
        """Returns what central keeps for a peer, by content, without what only waits until newer bytes are kept."""
        query = """
        SELECT placements.content_id, placement_id, path, wanted FROM placements JOIN files ON files.id = file_id
        WHERE author = ? AND successor IS NULL
        """
        return {content: Promise(*rest) for content, *rest in self.rows(query, self.peers[number].id)}

    @somebody_is_live
    @rule(pick=picks, off=st.sampled_from([1, 2, 1000]))
    def publish_on_another_version(self, pick, off):
        TAKEN["conflict"] += 1
        number = self.one_live(pick)
        member = self.member(number)
        base = max(1, member.version + off)
        request = self.peers[number].publish_request({"x": CONTENTS[0]}, base_version=base)
        self.refused(self.called("PublishFiles", request), errors.VersionConflict)

    @somebody_is_live
    @rule(pick=picks, which=st.integers(0, 3), content=contents, replicas=st.integers(1, 3))
    def place(self, pick, which, content, replicas):
        TAKEN["place"] += 1
        number = self.one_live(pick)
        published = [(one, *item) for one in range(PEERS) for item in sorted(self.member(one).entries.items())]
        published = [one for one in published if self.member(one[0]).live]
        if published and which:  # else it publishes no such thing
            number, path, content = published[pick % len(published)]
        else:
            path = PATHS[which]
        self.places(number, path, content, replicas)

    @somebody_is_live
    @rule(pick=picks, path=st.sampled_from(PATHS), content=contents, replicas=st.integers(1, 3))
    def put(self, pick, path, content, replicas):
        """What `relevo put` does, and what comes of it when all goes well."""
        TAKEN["put"] += 1
        number = self.one_live(pick)
        self.publishes(number, added={path: content})
        self.places(number, path, content, replicas)
        for other, peer in enumerate(self.peers):
            if self.network.directory.placements.directives(peer.id):
                self.obeys(other)

    def places(self, number, path, content, replicas):
        peer, member = self.peers[number], self.member(number)
        payload = pb2.PlaceFileDetails(content_id=content, path=path, replicas=replicas)
        request = pb2.PlaceFileRequest(signed=peer.signed(PLACE_FILE, payload))
        if member.entries.get(path) != content:
            self.refused(self.called("PlaceFile", request), errors.NotFound)
            return
        placed = self.call("PlaceFile", request).placement
        known = self.model.promises.get((peer.id, content))
        assert known is None or known.placement_id == placed.placement_id
        CAME_TO["placed"] += 1
        self.model.promises.pop((peer.id, content), None)  # what is asked for now replaces it
        self.model.goes_on(peer.id, {path: content}, self.promised(number))
        assert self.model.promises[peer.id, content] == Promise(placed.placement_id, path, replicas)

    @precondition(lambda self: self.model.promises)
    @rule(pick=picks)
    def give_up(self, pick):
        """What `relevo rm` does."""
        TAKEN["give up"] += 1
        author, content = sorted(self.model.promises)[pick % len(self.model.promises)]
        peer = next(peer for peer in self.peers if peer.id == author)
        request = pb2.EndPlacementRequest(
            signed=peer.signed(END_PLACEMENT, pb2.EndPlacementDetails(content_id=content))
        )
        if not self.model.members[author].live:
            self.refused(self.called("EndPlacement", request), errors.NotFound)
            return
        self.call("EndPlacement", request)
        CAME_TO["given up"] += 1
        self.model.ended.append(self.model.promises.pop((author, content)).placement_id)

    @somebody_is_live
    @rule(pick=picks, answer=st.sampled_from(["stores", "stores one", "declines", "says nothing"]))
    def obey(self, pick, answer):
        """Hears what central wants it to store, and does it, or some of it, or says no."""
        TAKEN["obey"] += 1
        asked = [one for one, peer in enumerate(self.peers) if self.network.directory.placements.directives(peer.id)]
        self.obeys(asked[pick % len(asked)] if asked else self.one_live(pick), answer)

    def obeys(self, number, answer="stores"):
        told = self.beats(number).directives
        directives = [one.store for one in told if one.HasField("store")]
        for store in directives:
            assert self.peers[number].id != self.author_of(store.placement_id)
        if answer == "stores one":
            directives = directives[:1]
        if directives and answer == "declines":
            self.publishes(number, declined=[store.placement_id for store in directives])
        elif directives and answer != "says nothing":
            self.publishes(number, stored={store.content_id for store in directives})
        drops = {one.drop.content_id for one in told if one.HasField("drop")}
        if drops and answer != "says nothing":
            CAME_TO["dropped"] += 1
            self.publishes(number, dropped=drops)

    def author_of(self, placement_id):
        return next((a for (a, _), p in self.model.promises.items() if p.placement_id == placement_id), None)

    @somebody_is_live
    @rule(pick=picks, content=contents)
    def drop_a_copy(self, pick, content):
        TAKEN["drop"] += 1
        self.publishes(self.one_live(pick), dropped={content})

    # What networks and machines do.

    @precondition(lambda self: self.answered)
    @rule(which=st.integers(0, 1 << 16))
    def repeat(self, which):
        """A request that was answered comes once more, however late: it is answered as before, and changes nothing."""
        TAKEN["repeat"] += 1
        self.answered = [one for one in self.answered if self.now - one[0] < REMEMBERED][-50:]
        if self.answered:
            _, rpc, request, answer = self.answered[which % len(self.answered)]
            assert self.runner.run(self.called(rpc, request)) == answer

    @precondition(lambda self: self.older)
    @rule(which=st.integers(0, 1 << 16))
    def come_with_an_older_session(self, which):
        TAKEN["older session"] += 1
        number, session, how = self.older[which % len(self.older)]
        peer = self.peers[number]
        request = peer.publish_request({"x": CONTENTS[0]}, session_id=session, base_version=0)
        self.refused(self.called("PublishFiles", request), how)
        beats = peer.stream()

        async def beating():
            await beats.send(session_id=session)
            await beats.ended()

        self.refused(beating(), how)

    @rule(
        seconds=st.sampled_from([0.5, 1.0, GRACE, 3.0, LEASE, 10.0, LEASE + LONGEST_DOUBT + 1.0]),
        beating=st.sets(peers),
    )
    def wait(self, seconds, beating):
        """Time passes; some go on beating, the others are silent."""
        TAKEN["wait"] += 1
        for done in range(round(seconds * 2)):
            self.runner.run(self.network.pass_time(0.5))
            self.observe()
            if done % 4 == 3:
                for number in sorted(beating):
                    if self.member(number).live:
                        self.beats(number)
        self.runner.run(self.network.directory.purge())

    @precondition(lambda self: self.changes > 3)
    @rule(killed=st.booleans())
    def restart(self, killed):
        """Central starts again; when it was killed, with the files as they were at that moment."""
        TAKEN["restart"] += 1
        self.changes = 0
        if killed:
            self.starts += 1
            image = self.base / str(self.starts)
            self.runner.run(self.image(image))
        self.runner.run(self.network.stop())
        if killed:
            shutil.rmtree(self.network.data)
            self.network.data = image
        self.streams.clear()
        self.runner.run(self.network.start())
        for member in self.model.live().values():
            member.shows(self.now)
        self.observe()

    async def image(self, directory):
        """Copies the data directory in the thread that writes, so that no commit is under way."""
        store = self.network.directory._store
        await asyncio.wrap_future(store._writing.submit(shutil.copytree, self.network.data, directory))

    # What must be true.

    def observe(self):
        """Takes up whom central has given up, which it may only from a certain moment on and must from another."""
        there = {peer.peer_id: peer.session_id for peer in self.network.directory.roster}
        for number, peer in enumerate(self.peers):
            member = self.member(number)
            if not member.live:
                continue
            if peer.id in there:
                assert there[peer.id] == member.session
                assert self.now < member.must_end, "it has been silent for long, and is still there"
            else:
                assert self.now >= member.may_end, "it was given up too early"
                self.ends(number)

    @invariant()
    def who_is_there_is_there(self):
        there = {peer.peer_id: peer.session_id for peer in self.network.directory.roster}
        assert there == {peer_id: member.session for peer_id, member in self.model.live().items()}

    @invariant()
    def the_catalogue_is_what_they_publish(self):
        listed = self.runner.run(self.network.directory.catalogue.list_files(pb2.ListFilesRequest(page_size=500)))
        found = {(file.path, file.content_id, file.size_bytes) for file in listed.files}
        assert len(found) == len(listed.files)
        assert found == self.model.files()
        for file in listed.files:
            assert file.holder_count == len(self.model.holders(file.content_id))

    @invariant()
    def holders_are_who_holds(self):
        for content in CONTENTS:
            expected = self.model.holders(content)
            try:
                located = self.runner.run(self.network.directory.catalogue.locate(content, "", 100))
                found = {holder.peer.peer_id for holder in located.holders}
            except errors.NotFound:
                found = set()
            assert found == expected or (not found and not self.model.names(content))

    @invariant()
    def promises_stand(self):
        for (author, content), promise in self.model.promises.items():
            placement = self.runner.run(self.network.directory.placements.get_placement(promise.placement_id))
            self.check_placement(placement, author, content)
            assert (placement.path, placement.wanted_copies) == (promise.path, promise.wanted)

    @invariant()
    def what_has_ended_stays_so(self):
        for placement_id in self.model.ended[-3:]:
            try:
                placement = self.runner.run(self.network.directory.placements.get_placement(placement_id))
            except errors.NotFound:
                continue
            raise AssertionError(f"it was given up, and goes on: {placement}")

    def check_placement(self, placement, author, content):
        assert placement.content_id == content
        copies = [copy.peer.peer_id for copy in placement.copies]
        assert len(set(copies)) == len(copies)
        assert author not in copies
        assert set(copies) <= self.model.live().keys()
        confirmed = {copy.peer.peer_id for copy in placement.copies if copy.confirmed}
        storing = self.model.storing(content) - {author}
        assert confirmed <= storing, "a copy counts that nobody has confirmed"
        dropping = {peer_id for (peer_id,) in self.rows("SELECT peer_id FROM dropping WHERE content_id = ?", content)}
        assert not confirmed & dropping, "a copy counts that is to be dropped"
        if len(storing) <= placement.wanted_copies:
            assert confirmed == storing - dropping

    @invariant()
    def everybody_has_live_neighbours(self):
        live = self.model.live()
        dialled = {peer.id for peer in self.peers if peer.addresses} & live.keys()
        for peer_id in live:
            pair = self.network.directory.sessions.neighbours(peer_id)
            named = [one.peer_id for one in (pair.primary, pair.backup) if one.peer_id]
            assert set(named) <= live.keys() - {peer_id}
            assert len(set(named)) == len(named)
            assert len(named) >= min(2, len(dialled - {peer_id}))
