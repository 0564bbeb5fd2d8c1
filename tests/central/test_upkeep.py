"""What is promised is kept: lost copies are replaced, too many dropped, older bytes retired, and claims given up."""

import asyncio
from dataclasses import replace

import pytest

from central.quotas import Quotas
from core import errors
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import PLACEMENT_STATE_KEPT

CONTENT, NEWER = b"c" * 32, b"n" * 32
GRACE = 30.0


class Keeper:
    """A storing peer that does at once what it is told, and notes it."""

    def __init__(self, network, peer):
        self.network = network
        self.peer = peer
        self.id = peer.id
        self.beats = None
        self.silent = False
        self.stored = set()
        self.fetched = []
        self.dropped = []

    async def come(self):
        """Logs in with all that it has."""
        await self.peer.login()
        self.beats = await self.peer.live()

    async def leave(self):
        await self.peer.logout()

    async def fall_silent(self):
        """Loses its connection and its lease."""
        self.beats.call.cancel()
        self.silent = True
        await self.network.until_suspect(self.peer)

    async def obey(self):
        """Carries out what it is told of copies with its next beat, and returns how much that was."""
        directives = (await self.beats.beat()).directives
        stored = {one.store.content_id for one in directives if one.HasField("store")}
        dropped = {one.drop.content_id for one in directives if one.HasField("drop")}
        self.fetched += stored
        self.dropped += dropped
        self.stored = self.stored - dropped | stored
        if stored or dropped:
            await self.peer.publish(stored_content_ids=list(stored), dropped_content_ids=list(dropped))
        return len(stored) + len(dropped)


class Stage:
    """An author and keepers, of whom some are there."""

    def __init__(self, network):
        self.network = network
        self.author = self.authors_beats = None
        self.keepers = []

    async def begin(self, count, **fields):
        self.author = await self.network.logged_in()
        self.authors_beats = await self.author.live()
        await self.author.publish({"a.txt": CONTENT})
        for _ in range(count):
            keeper = Keeper(self.network, self.network.peer(**fields))
            await keeper.come()
            self.keepers.append(keeper)

    def here(self):
        roster = self.network.directory.roster
        return [keeper for keeper in self.keepers if keeper.id in roster and not keeper.silent]

    def having(self, content=CONTENT):
        return [keeper for keeper in self.here() if content in keeper.stored]

    async def settle(self):
        """Has everybody obey until there is nothing more to do."""
        while True:
            await self.network.directory.upkeep.refill()
            if not any([await keeper.obey() for keeper in self.here()]):
                return

    async def pass_time(self, seconds):
        """Moves the clock while everybody beats, and has everybody obey."""
        left = seconds
        while left > 0:
            step = min(left, 5.0)
            left -= step
            self.network.clock.advance(step)
            for beats in [self.authors_beats, *(keeper.beats for keeper in self.here())]:
                await beats.beat(free_bytes=0 if beats is self.authors_beats else beats.peer.free_bytes)
            await self.network.directory.sweep()
        await self.settle()

    async def restart(self):
        """Has central begin anew, with everybody who was there."""
        await self.network.restart()
        self.authors_beats = await self.author.live()
        for keeper in self.here():
            keeper.beats = await keeper.peer.live()

    async def kept(self, content=CONTENT):
        found = await self.network.directory.catalogue.list_files(pb2.ListFilesRequest(reference=content.hex()))
        return [(file.wanted_copies, file.live_copies) for file in found.files]


@pytest.fixture
async def stage(network):
    return Stage(network)


async def test_a_lost_copy_is_replaced_when_the_grace_is_over_and_not_before(stage):
    await stage.begin(4)
    await stage.author.place(CONTENT, replicas=3)
    await stage.settle()
    lost, *others = stage.having()
    assert len(others) == 2
    await lost.leave()
    await stage.pass_time(GRACE - 1)
    assert stage.having() == others
    await stage.pass_time(2)
    assert len(stage.having()) == 3
    assert sum(len(keeper.fetched) for keeper in stage.keepers) == 4


async def test_a_peer_that_returns_in_time_costs_nothing(stage):
    await stage.begin(4)
    await stage.author.place(CONTENT, replicas=3)
    await stage.settle()
    lost = stage.having()[0]
    await lost.leave()
    await stage.pass_time(GRACE - 1)
    await lost.come()
    await stage.pass_time(3 * GRACE)
    assert sum(len(keeper.fetched) for keeper in stage.keepers) == 3
    assert [keeper.dropped for keeper in stage.keepers] == [[], [], [], []]


async def test_whoever_comes_back_too_late_drops_its_copy_since_another_has_been_made(stage):
    await stage.begin(4)
    await stage.author.place(CONTENT, replicas=3)
    await stage.settle()
    lost = stage.having()[0]
    await lost.leave()
    await stage.pass_time(GRACE + 1)
    await lost.come()
    await stage.settle()
    assert [keeper.dropped for keeper in stage.keepers if keeper.dropped] == [lost.dropped] == [[CONTENT]]
    assert await stage.kept() == [(3, 3)]


async def test_nothing_is_dropped_on_the_word_of_those_who_have_just_come(stage):
    await stage.begin(3)
    await stage.author.place(CONTENT, replicas=3)
    await stage.settle()
    await stage.author.place(CONTENT, replicas=2)
    await stage.pass_time(GRACE - 1)  # the others may still find out that they have lost theirs
    assert len(stage.having()) == 3
    await stage.pass_time(2)
    assert len(stage.having()) == 2


async def test_a_peer_that_fell_silent_is_waited_for_from_the_end_of_its_session(stage):
    await stage.begin(2)
    await stage.author.place(CONTENT, replicas=1)
    await stage.settle()
    (lost,) = stage.having()
    await lost.fall_silent()
    await stage.pass_time(5)  # more than what a broken stream leaves
    assert lost.id not in stage.network.directory.roster
    await stage.pass_time(GRACE - 1)
    assert stage.having() == []
    await stage.pass_time(2)
    assert len(stage.having()) == 1


async def test_a_revoked_peer_is_not_waited_for(stage):
    await stage.begin(2)
    await stage.author.place(CONTENT, replicas=1)
    await stage.settle()
    (lost,) = stage.having()
    await stage.network.directory.sessions.end_revoked({lost.id})
    await stage.settle()
    assert len(stage.having()) == 1


async def test_central_waits_anew_for_those_who_were_away_when_it_stopped(stage):
    await stage.begin(2)
    await stage.author.place(CONTENT, replicas=1)
    await stage.settle()
    (lost,), (other,) = stage.having(), [keeper for keeper in stage.keepers if not keeper.stored]
    await lost.leave()
    stage.network.clock.advance(GRACE - 1)
    await stage.restart()
    await stage.pass_time(GRACE - 1)
    assert stage.having() == []
    await stage.pass_time(2)
    assert stage.having() == [other]


async def test_fewer_wanted_copies_are_dropped_and_none_of_those_that_stay(stage):
    await stage.begin(5)
    await stage.author.place(CONTENT, replicas=5)
    await stage.settle()
    await stage.pass_time(GRACE)
    await stage.author.place(CONTENT, replicas=2)
    await stage.settle()
    assert len(stage.having()) == 2
    assert await stage.kept() == [(2, 2)]


async def test_nothing_is_dropped_while_those_that_would_stay_are_silent(stage):
    await stage.begin(3)
    await stage.author.place(CONTENT, replicas=3)
    await stage.settle()
    await stage.pass_time(GRACE)
    silent = stage.keepers[0]
    await silent.fall_silent()
    await stage.author.place(CONTENT, replicas=2)
    await stage.network.directory.upkeep.refill()
    # The silent one may go; the two that beat are all that is certain.
    assert stage.network.directory.upkeep.directives.of(silent.id) != ()
    assert [await keeper.obey() for keeper in stage.keepers[1:]] == [0, 0]


async def test_central_tells_after_a_restart_whom_it_had_told_to_drop_and_nobody_else(stage):
    await stage.begin(4)
    await stage.author.place(CONTENT, replicas=4)
    await stage.settle()
    await stage.pass_time(GRACE)
    await stage.author.place(CONTENT, replicas=2)
    await stage.network.directory.upkeep.refill()
    directives = stage.network.directory.upkeep.directives
    told = {keeper.id for keeper in stage.keepers if directives.of(keeper.id)}
    assert len(told) == 2
    await stage.restart()
    await stage.pass_time(2 * GRACE)
    assert {keeper.id for keeper in stage.keepers if keeper.dropped} == told
    assert len(stage.having()) == 2


async def test_given_up_copies_are_dropped_at_once_and_by_those_who_were_away_when_they_are_back(stage):
    await stage.begin(3)
    placement = await stage.author.place(CONTENT, replicas=3)
    await stage.settle()
    away = stage.keepers[0]
    await away.leave()
    answer = await stage.author.end(CONTENT)
    assert (answer.placement.placement_id, answer.placement.live_copies) == (placement.placement_id, 2)
    assert answer.wanted_copies == 0
    await stage.settle()
    assert stage.having() == []
    assert [len(keeper.dropped) for keeper in stage.keepers] == [0, 1, 1]
    await stage.restart()
    await away.come()
    await stage.settle()
    assert [len(keeper.dropped) for keeper in stage.keepers] == [1, 1, 1]
    await stage.pass_time(2 * GRACE)
    assert [len(keeper.fetched) for keeper in stage.keepers] == [1, 1, 1]


async def test_a_copy_that_is_being_made_when_it_is_given_up_is_dropped_too(stage):
    await stage.begin(1)
    await stage.author.place(CONTENT, replicas=1)
    await stage.author.end(CONTENT)
    (keeper,) = stage.keepers
    directives = (await keeper.beats.beat()).directives
    assert [one.WhichOneof("action") for one in directives] == ["drop"]
    await keeper.peer.publish(stored_content_ids=[CONTENT])  # it had just finished
    keeper.stored.add(CONTENT)
    await stage.settle()
    assert stage.having() == []


async def test_what_nobody_has_given_up_is_never_dropped_also_when_central_has_lost_its_store(stage):
    await stage.begin(1)
    (keeper,) = stage.keepers
    await keeper.peer.publish(stored_content_ids=[CONTENT])
    keeper.stored.add(CONTENT)
    await stage.pass_time(2 * GRACE)
    assert stage.having() == [keeper]
    placement = await stage.author.place(CONTENT, replicas=1)
    assert placement.state == PLACEMENT_STATE_KEPT
    assert keeper.fetched == []


async def test_two_owners_share_copies_the_most_count_and_each_gives_up_its_own_claim(stage):
    await stage.begin(5)
    other = await stage.network.logged_in()
    await other.publish({"b.txt": CONTENT})
    await stage.author.place(CONTENT, replicas=2)
    await other.place(CONTENT, path="b.txt", replicas=3)  # the first two are still being made
    await stage.settle()
    assert await stage.kept() == [(3, 3), (3, 3)]
    assert sum(len(keeper.fetched) for keeper in stage.keepers) == 3
    stage.network.clock.advance(GRACE)
    before = set(stage.having())
    assert (await other.end(CONTENT)).wanted_copies == 2
    await stage.settle()
    assert await stage.kept() == [(2, 2), (2, 2)]
    assert set(stage.having()) < before
    assert sum(len(keeper.fetched) for keeper in stage.keepers) == 3, "one was dropped, and two were there all the time"
    assert (await stage.author.end(CONTENT)).wanted_copies == 0
    await stage.settle()
    assert stage.having() == []


async def test_who_has_no_claim_hears_who_has(stage, fails_with):
    await stage.begin(1)
    other = await stage.network.logged_in()
    with fails_with(errors.NotFound, "neither has anybody else"):
        await other.end(CONTENT)
    await stage.author.place(CONTENT)
    await stage.settle()
    with fails_with(errors.NotFound, f"{stage.author.name} did"):
        await other.end(CONTENT)
    await stage.settle()
    assert len(stage.having()) == 1


async def test_only_the_author_can_give_up_and_a_repeated_request_is_answered_as_the_first(stage, fails_with):
    await stage.begin(1)
    other = await stage.network.logged_in()
    await stage.author.place(CONTENT)
    request = other.end_request(CONTENT)
    request.signed.author = stage.author.id
    with fails_with(errors.Unauthenticated):
        await stage.network.stub.EndPlacement(request)
    request = pb2.EndPlacementRequest(signed=stage.author.place_request(CONTENT).signed)
    with fails_with(errors.Unauthenticated, "was signed for"):
        await stage.network.stub.EndPlacement(request)
    with fails_with(errors.InvalidInput) as caught:
        await stage.author.end(b"short")
    assert caught.error.field == "content_id"
    request = stage.author.end_request(CONTENT)
    answers = await asyncio.gather(*(stage.network.stub.EndPlacement(request) for _ in range(4)))
    assert len({answer.SerializeToString() for answer in answers}) == 1
    await stage.author.place(CONTENT)
    assert await stage.network.stub.EndPlacement(request) == answers[0]
    await stage.settle()
    assert len(stage.having()) == 1  # the repeated request has not ended the new claim
    await stage.author.logout()
    with fails_with(errors.NotFound, "not logged in"):
        await stage.author.end(CONTENT)


async def test_older_bytes_stay_until_the_new_ones_are_kept_and_are_dropped_then(stage):
    await stage.begin(3)
    await stage.author.place(CONTENT, replicas=2)
    await stage.settle()
    holders = stage.having()
    await stage.author.publish({"a.txt": NEWER})
    await stage.network.directory.upkeep.refill()
    first, *rest = [one for one in stage.keepers if stage.network.directory.upkeep.directives.of(one.id)]
    assert len(rest) == 1
    await first.obey()
    await stage.network.directory.upkeep.refill()
    assert stage.having() == holders
    await stage.settle()
    assert (len(stage.having()), len(stage.having(NEWER))) == (0, 2)
    assert await stage.kept(NEWER) == [(2, 2)]
    assert await stage.kept() == []


async def test_older_bytes_stay_when_nobody_has_room_for_the_new_ones_and_lost_copies_are_replaced(stage):
    await stage.begin(3, free_bytes=15)
    await stage.author.place(CONTENT, replicas=2)
    await stage.settle()
    newer = stage.author.publish_request({"a.txt": NEWER})
    newer.added[0].size_bytes = 20
    stage.author.version = (await stage.network.stub.PublishFiles(newer)).catalogue_version
    await stage.settle()
    await stage.having()[0].leave()
    await stage.pass_time(GRACE + 1)
    assert (len(stage.having()), len(stage.having(NEWER))) == (2, 0)


async def test_whoever_is_fetching_older_bytes_is_told_to_stop_when_the_new_ones_are_placed(stage):
    network = stage.network
    network.settings = replace(network.settings, quotas=Quotas(placed_bytes=45))
    await network.restart()
    await stage.begin(2)
    await stage.author.place(CONTENT, replicas=2)
    newer = stage.author.publish_request({"a.txt": NEWER})
    newer.added[0].size_bytes = 20
    stage.author.version = (await network.stub.PublishFiles(newer)).catalogue_version
    await network.directory.upkeep.refill()
    assert [len(network.directory.upkeep.directives.of(keeper.id)) for keeper in stage.keepers] == [1, 1]
    await stage.author.place(NEWER, replicas=1)  # two would have been too many bytes
    await stage.settle()
    assert [keeper.dropped for keeper in stage.keepers] == [[CONTENT], [CONTENT]]
    assert CONTENT not in [content for keeper in stage.keepers for content in keeper.fetched]
    assert len(stage.having(NEWER)) == 1


async def test_copies_of_a_file_that_its_author_deletes_stay(stage):
    await stage.begin(2)
    await stage.author.place(CONTENT, replicas=2)
    await stage.settle()
    await stage.author.publish(removed_paths=["a.txt"])
    await stage.pass_time(2 * GRACE)
    assert len(stage.having()) == 2
