"""Small contents between real servers: honest holders, liars, the silent, the busy, those that lack them."""

import asyncio
import random
import time
from dataclasses import replace

import pytest

from core import errors
from core.content import MAX_SMALL
from core.manifest import manifest_of
from core.rpc import Server
from peer.fetching.pieces import Allowance, unlimited
from peer.fetching.reaching import Reach
from peer.giving.serving import Serving
from peer.links.channels import Channels
from peer.links.contacts import Contact, Holder
from peer.links.dialling import Dialler
from peer.links.limiter import Limiter
from peer.relay_servicer import RelayServicer
from peer.sets.gatherer import Gatherer, GatherSettings
from peer.sets.gathering import GatherLimits
from relevo.v1 import peer_relay_pb2 as pb2
from relevo.v1.peer_relay_pb2_grpc import add_PeerRelayServicer_to_server

QUICK = GatherSettings(
    limits=GatherLimits(patience=0.2, first_rest=0.02, longest_rest=0.05),
    timeout=5.0,
    refresh=0.1,
    patience=0.6,
    address_patience=0.1,
)
FILES = [random.Random(number).randbytes(100 + number) for number in range(300)]
SIZES = {manifest_of(data).content_id: len(data) for data in FILES}
BYTES = {manifest_of(data).content_id: data for data in FILES}
ONE = manifest_of(FILES[0]).content_id


class Memory:
    """Contents in memory, each read as the library reads it."""

    def __init__(self, contents):
        self.contents = dict(contents)

    async def read_small(self, content_ids, room):
        said = []
        for content_id in content_ids:
            data = self.contents.get(content_id)
            if data is None:
                said.append(errors.NotFound("not held"))
            elif len(data) > MAX_SMALL:
                said.append(errors.NotPossible("large"))
            elif said and len(data) > room:
                break
            else:
                room -= len(data)
                said.append(data)
        return said


class Tampered(RelayServicer):
    """A holder whose answers pass through a function before they leave."""

    def __init__(self, contents, change=None):
        super().__init__(Serving(Memory(contents), time.monotonic), carrier=None)
        self.change = change
        self.asked = []

    async def GetContents(self, request, context):
        self.asked.append(list(request.content_ids))
        answer = await super().GetContents(request, context)
        return await self.change(request, answer) if self.change else answer


class World:
    """Servers, and a gatherer that asks them."""

    def __init__(self):
        self.channels = Channels()
        self.servers, self.holders, self.accused, self.looks = {}, {}, [], []
        self.settings, self.allowance = QUICK, unlimited()
        self.named = None
        self.running = None

    async def holder(self, name, contents=BYTES, change=None, doubted=False):
        servicer, server = Tampered(contents, change), Server()
        add_PeerRelayServicer_to_server(servicer, server.server)
        port = server.listen("127.0.0.1:0")
        await server.start()
        self.servers[name] = server
        self.holders[name] = Holder(Contact(name, name, (f"127.0.0.1:{port}",)), doubted=doubted)
        return servicer

    async def find_many(self, content_ids, *, directly=False):
        self.looks.append((list(content_ids), directly))
        holders = self.holders if self.named is None else self.named(directly)
        return {content_id: list(holders.values()) for content_id in content_ids}

    def accuse(self, peer_id, content_id, lied):
        self.accused.append((peer_id, content_id, lied))

    def start(self):
        dialler = Reach(Dialler(self.channels, lambda: "127.0.0.1:1", time.monotonic))
        self.gatherer = Gatherer(
            self.find_many, dialler, "me", time.monotonic,
            accuse=self.accuse, allowance=self.allowance, settings=self.settings,
        )  # fmt: skip
        self.running = asyncio.ensure_future(self.gatherer.run())

    async def gather(self, sizes=SIZES):
        if self.running is None:
            self.start()
        async with asyncio.timeout(20):
            futures = self.gatherer.want(sizes)
            await asyncio.wait(futures.values())
            return futures

    async def all_come(self, sizes=SIZES):
        futures = await self.gather(sizes)
        assert {content_id: future.result().data for content_id, future in futures.items()} == {
            content_id: BYTES[content_id] for content_id in sizes
        }
        return futures

    async def close(self):
        if self.running is not None:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)
            assert not self.gatherer._tasks
        await self.channels.close()
        await asyncio.gather(*(server.stop(0) for server in self.servers.values()))


@pytest.fixture
async def world():
    world = World()
    yield world
    await world.close()


async def test_hundreds_of_contents_take_a_few_calls_and_come_with_their_manifests(world):
    world.settings = replace(QUICK, refresh=20.0)
    ana = await world.holder("ana")
    futures = await world.all_come()
    assert len(ana.asked) <= 3
    assert len(world.looks) == 1
    for content_id, future in futures.items():
        assert future.result().manifest.content_id == content_id
        assert future.result().giver.name == "ana"
    assert world.accused == []


async def test_several_holders_share_the_work(world):
    world.settings = replace(QUICK, limits=replace(QUICK.limits, contents=20, patience=20.0))
    holders = [await world.holder(name) for name in ("ana", "ben", "cho")]
    await world.all_come()
    assert all(len(holder.asked) >= 2 for holder in holders)
    assert sum(len(ids) for holder in holders for ids in holder.asked) == len(SIZES)


def with_data(change):
    async def changed(request, answer):
        await asyncio.sleep(0)
        return change(request, answer)

    return changed


def other_bytes(request, answer):
    answer.contents[-1].data = b"not what was asked for"
    return answer


def too_many(request, answer):
    answer.contents.add(data=b"one more")
    return answer


def none_at_all(request, answer):
    return pb2.GetContentsResponse()


def swapped(request, answer):
    first, second = answer.contents[0].data, answer.contents[1].data
    answer.contents[0].data, answer.contents[1].data = second, first
    return answer


def too_long(request, answer):
    answer.contents[0].data = bytes(MAX_SMALL + 1)
    return answer


def over_every_limit(request, answer):
    answer.contents[0].data = bytes(3 * 1024 * 1024)
    return answer


LIES = [other_bytes, too_many, none_at_all, swapped, too_long, over_every_limit]


@pytest.mark.parametrize("lie", LIES)
async def test_a_liar_is_found_out_accused_and_not_asked_again_and_the_honest_give_the_rest(world, lie):
    liar = await world.holder("liar", change=with_data(lie))
    await world.holder("honest")
    futures = await world.all_come()
    asked = len(liar.asked)
    assert asked <= 2, "what was on its way when it was found out"
    assert {(name, lied) for name, _, lied in world.accused} == {("liar", True)}
    assert sum(future.result().giver.name == "honest" for future in futures.values()) > 0
    await world.all_come(dict(list(SIZES.items())[:10]))
    assert len(liar.asked) == asked


@pytest.mark.parametrize("lie", LIES)
async def test_when_all_lie_nothing_comes_and_it_ends(world, lie):
    await world.holder("liar", change=with_data(lie))
    wanted = dict(list(SIZES.items())[:5])
    for content_id, future in (await world.gather(wanted)).items():
        if future.exception() is None:  # what it told the truth about
            assert future.result().data == BYTES[content_id]
        else:
            assert isinstance(future.exception(), errors.NotFound)
    assert any(future.exception() for future in (await world.gather(wanted)).values())


async def test_what_a_holder_lacks_comes_from_another_and_it_is_accused_of_that_alone(world):
    half = dict(list(BYTES.items())[:150])
    await world.holder("ana", half)
    await world.holder("ben", {key: data for key, data in BYTES.items() if key not in half})
    await world.all_come()
    assert all(not lied and (name == "ana") != (content_id in half) for name, content_id, lied in world.accused)


async def test_what_nobody_has_is_asked_of_central_itself_and_then_not_found(world):
    await world.holder("ana", {ONE: FILES[0]})
    futures = await world.gather(dict(list(SIZES.items())[:3]))
    assert futures.pop(ONE).result().data == FILES[0]
    assert all(isinstance(future.exception(), errors.NotFound) for future in futures.values())
    (first, at_central_itself), (last, last_at_central_itself) = world.looks[0], world.looks[-1]
    assert (len(first), at_central_itself, last_at_central_itself) == (3, False, True)
    assert set(futures) <= set(last)


async def test_who_was_invented_by_a_neighbour_costs_a_look_up_at_central(world):
    await world.holder("ana")
    invented = {"nobody": Holder(Contact("nobody", "nobody", ("127.0.0.1:1",)))}
    world.named = lambda directly: world.holders if directly else invented
    await world.all_come()
    assert world.looks[-1][1]


async def test_a_content_that_is_not_small_is_told_so(world):
    large = bytes(MAX_SMALL + 1)
    await world.holder("ana", {manifest_of(large).content_id: large, ONE: FILES[0]})
    futures = await world.gather({manifest_of(large).content_id: 100, ONE: len(FILES[0])})
    assert isinstance(futures.pop(manifest_of(large).content_id).exception(), errors.NotPossible)
    assert futures.pop(ONE).result().data == FILES[0]
    assert world.accused == []


async def test_a_holder_that_says_too_large_of_everything_keeps_nothing_from_the_others(world):
    async def refuses(request, answer):
        refused = pb2.GivenContent(problem=pb2.CONTENT_PROBLEM_TOO_LARGE)
        return pb2.GetContentsResponse(contents=[refused] * len(request.content_ids))

    await world.holder("liar", change=refuses)
    await world.holder("honest")
    await world.all_come()


async def test_what_a_silent_holder_keeps_waiting_comes_from_another(world):
    async def silent(request, answer):
        await asyncio.Event().wait()

    await world.holder("silent", change=silent)
    await world.holder("honest")
    await world.all_come()


async def test_a_holder_that_is_busy_is_asked_again(world):
    times = []

    async def busy_at_first(request, answer):
        times.append(request)
        if len(times) <= 2:
            raise errors.Busy("later", 0.05)
        return answer

    await world.holder("ana", change=busy_at_first)
    await world.all_come()
    assert world.accused == []


async def test_when_nobody_answers_what_is_wanted_is_given_up_after_a_while_and_says_so(world):
    await world.holder("ana")
    await world.servers["ana"].stop(0)
    began = time.monotonic()
    futures = await world.gather(dict(list(SIZES.items())[:3]))
    assert all(isinstance(future.exception(), errors.Unreachable) for future in futures.values())
    assert QUICK.patience <= time.monotonic() - began < 10 * QUICK.patience
    assert any(directly for _, directly in world.looks), "central itself was asked for others"


async def test_doubted_holders_are_asked_only_when_there_is_nobody_else(world):
    doubted = await world.holder("doubted", doubted=True)
    await world.holder("ana")
    await world.all_come()
    assert doubted.asked == []
    del world.holders["ana"]
    await world.all_come(dict(list(SIZES.items())[:5]))
    assert doubted.asked


async def test_central_that_cannot_be_asked_is_asked_again(world):
    await world.holder("ana")
    fails = [errors.Unreachable("no"), errors.Busy("later", 1.0)]
    find = world.find_many

    async def at_last(content_ids, *, directly=False):
        if fails:
            raise fails.pop()
        return await find(content_ids, directly=directly)

    world.find_many, world.settings = at_last, replace(QUICK, patience=20.0)
    await world.all_come()


async def test_a_revoked_peer_hears_it_at_once(world):
    async def refused(content_ids, *, directly=False):
        raise errors.Revoked

    world.find_many = refused
    futures = await world.gather()
    assert all(isinstance(future.exception(), errors.Revoked) for future in futures.values())


async def test_a_limit_is_kept_also_by_what_comes_in_many_small_answers(world):
    await world.holder("ana")
    limiter = Limiter(time.monotonic, 50_000.0)
    world.allowance = Allowance("me", limiter, Limiter(time.monotonic))
    began = time.monotonic()
    await world.all_come()
    took = time.monotonic() - began
    assert sum(SIZES.values()) / took <= 50_000 * 1.5, "with what is saved up at the beginning"


async def test_stopping_leaves_nothing_behind(world):
    asked = asyncio.Event()

    async def silent(request, answer):
        asked.set()
        await asyncio.Event().wait()

    await world.holder("silent", change=silent)
    world.start()
    futures = world.gatherer.want(SIZES)
    await asyncio.wait_for(asked.wait(), 10)
    world.running.cancel()
    await asyncio.gather(world.running, return_exceptions=True)
    await asyncio.sleep(0)
    assert all(future.cancelled() for future in futures.values())
