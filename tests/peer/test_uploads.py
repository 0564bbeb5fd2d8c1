"""Uploads without central: what is shared stays shared, and the user does not wait long."""

import asyncio
import time

import pytest

from core.errors import Busy, Unreachable
from core.identity import Identity
from peer.directory.logins import Introduction
from peer.directory.publishing import Publisher
from peer.directory.routes import Routes
from peer.directory.session import Session
from peer.links.channels import Channels
from peer.work import uploads
from peer.work.transfers import Transfers
from peer.work.uploads import Uploads
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import Placement

NOWHERE = "127.0.0.1:1"


@pytest.fixture
async def alone(library_bench, tmp_path):
    """Uploads of a peer that is not logged in."""
    library = await library_bench.open()
    identity = Identity.load_or_create(tmp_path / "key.pem")
    channels = Channels()
    introduction = Introduction("ana", lambda _: (), lambda: 0)
    session = Session(identity, channels, (NOWHERE,), introduction, clock=time.monotonic, wall=time.time)
    transfers = Transfers(time.time)
    yield Uploads(
        identity=identity,
        library=library,
        publisher=Publisher(library, session),
        session=session,
        routes=Routes(channels, NOWHERE, (), time.monotonic),
        transfers=transfers,
    )
    await transfers.close()
    await channels.close()


async def test_without_central_the_file_is_shared_and_the_user_hears_soon_that_nobody_copies_it(
    alone, library_bench, monkeypatch
):
    monkeypatch.setattr(uploads, "SESSION_TIMEOUT", 0.05)
    library_bench.write("film", b"bytes", root=library_bench.base)
    upload = alone.start(library_bench.base / "film", 1)
    async with asyncio.timeout(20):
        await asyncio.wait([upload.task])
    assert isinstance(upload.error, Unreachable)
    assert "film is shared, but this peer is not logged in" in str(upload.error)
    assert (library_bench.shared / "film").read_bytes() == b"bytes"


async def test_an_upload_waits_while_central_has_no_room_for_another_change(alone, library_bench, monkeypatch):
    monkeypatch.setattr(uploads, "BUSY_PAUSES", (0.0, 0.01))
    asked = []

    async def place(request):
        asked.append(request.SerializeToString())
        if len(asked) < 3:
            raise Busy("too many changes at once", 0.01)
        return pb2.PlaceFileResponse(placement=Placement(placement_id="p")), None

    async def live():
        return None

    async def published(path, content_id, timeout):
        return None

    monkeypatch.setattr(alone._routes, "place_file", place)
    monkeypatch.setattr(alone._session, "wait_live", live)
    monkeypatch.setattr(alone._publisher, "published", published)
    library_bench.write("film", b"bytes", root=library_bench.base)
    upload = alone.start(library_bench.base / "film", 1)
    async with asyncio.timeout(20):
        await asyncio.wait([upload.task])
    assert (upload.error, upload.placement_id) == (None, "p")
    assert len(set(asked)) == 1  # the same request, which central answers once
    del asked[:]
    monkeypatch.setattr(uploads, "BUSY_PAUSES", (0.0,))
    upload = alone.start(library_bench.base / "film", 1)
    async with asyncio.timeout(20):
        await asyncio.wait([upload.task])
    assert isinstance(upload.error, Busy)
