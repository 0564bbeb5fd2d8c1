"""A peer that was away for longer than central remembers peers: what it still stores is promised, or given back.

Central and all peers are real, in one process.
"""

import asyncio
import contextlib

import pytest

from central.server import running_central
from central.settings import Settings
from tests.network import Network, eventually, files


@pytest.fixture
async def network(tmp_path):
    settings = Settings(replace_after=0.5, forget_after=0.0)
    async with contextlib.AsyncExitStack() as stack:
        central = await stack.enter_async_context(running_central(tmp_path / "central", settings=settings))
        yield Network(tmp_path, central, stack)


async def put(peer, path, data):
    """Has one copy made of new bytes, as `relevo put` does; returns their content id."""
    path.write_bytes(data)
    upload = peer.uploads.start(path, 1)
    await asyncio.wait([upload.task], timeout=40)
    return upload.content_id


async def test_its_copies_are_given_back_when_their_owner_has_given_them_up_and_no_more_than_wanted_stay(
    network, tmp_path
):
    ana = await network.join("ana")
    ben = await network.join("ben", {"own.txt": b"own"})
    given_up, kept = [await put(ana, tmp_path / name, name.encode() * 999) for name in ("given up", "kept")]
    await eventually(lambda: ben.library.stores(given_up) and ben.library.stores(kept))
    await network.leave("ben")
    await network.central.directory.purge()
    cho = await network.join("cho")
    await eventually(lambda: cho.library.stores(given_up) and cho.library.stores(kept))
    await ana.uploads.give_up(given_up)
    await eventually(lambda: not cho.library.stores(given_up))
    assert await files(ana) == ["given up", "kept"], "central has forgotten what ben shares"
    assert list((tmp_path / "ben" / "home" / "store").rglob(given_up.hex())), "it has heard nothing yet"
    ben = await network.join("ben")
    await eventually(lambda: not ben.library.stores(given_up))
    await eventually(lambda: ben.library.stores(kept) != cho.library.stores(kept))

    async def all_listed():
        return await files(ana) == ["given up", "kept", "own.txt"]

    await eventually(all_listed)
    store = network.central.directory._store

    async def all_said():
        left = [one for peer in (ben, cho) for one in await store.to_drop(peer.identity.peer_id)]
        return not left

    await eventually(all_said)
    (placement,) = (await store.placed_content(kept)).placements
    assert placement.confirmed == placement.wanted == 1
