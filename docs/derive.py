"""Derives the tables and diagrams of docs/architecture.md from the code: `python docs/derive.py` rewrites them.

A derived part stands between `<!-- derived: NAME -->` and `<!-- end -->`. Modules come from the source, the states of a
session from driving the real lease book through every event, the flows from recording the calls of a real network.
"""

import ast
import asyncio
import contextlib
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
sys.path[:0] = [str(ROOT), str(ROOT / "generated")]

MARK = re.compile(r"(<!-- derived: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def modules() -> str:
    """Returns a table of every module: its name, and the first line of its docstring, which says what it is for."""
    rows = ["| module | what it is for |", "|---|---|"]
    for package in ("core", "central", "peer"):
        for path in sorted((ROOT / package).rglob("*.py")):
            text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
            if text:
                rows.append(f"| `{path.relative_to(ROOT)}` | {text.splitlines()[0]} |")
    return "\n".join(rows)


def states() -> str:
    """Returns what each event does to a session, found by driving a lease book through each."""
    from central.sessions.membership import Membership  # noqa: PLC0415 - the paths are set above

    session = "s"
    events = {
        "a beat on its stream": lambda book, stream, now: book.beat(session, stream, now),
        "another stream opens": lambda book, _, now: book.open(session, now),
        "its stream breaks": lambda book, stream, now: book.broken(session, stream, now),
        "it proves to others that it lives": lambda book, _, now: (book.doubtful(now), book.proved(session, now + 1)),
        "an older stream breaks": lambda book, stream, now: book.broken(session, stream - 1, now),
        "the grace passes": lambda *_: None,
        "the lease passes": lambda *_: None,
    }
    passes = {"the grace passes": 2.5, "the lease passes": 7.0}

    def prepared(state: str) -> tuple[Membership, int]:
        book = Membership()
        book.grant(session, 0.0)
        stream = 0
        if state != "granted":
            stream = book.open(session, 0.0)
        if state in {"suspect", "reached"}:
            book.broken(session, stream, 0.0)
        if state == "reached":
            book.proved(session, 0.0)
        return book, stream

    def after(state: str, event: str) -> str:
        book, stream = prepared(state)
        events[event](book, stream, 0.0)
        if session in book.sweep(passes.get(event, 0.0)):
            return "expired"
        found = book.state(session).name.lower()
        return "granted" if state == "granted" and found == "suspect" else found

    rows = ["| state | " + " | ".join(events) + " |", "|---|" + "---|" * len(events)]
    for state in ("granted", "live", "suspect", "reached"):
        cells = (after(state, event) for event in events)
        rows.append(f"| {state} | " + " | ".join("" if cell == state else cell for cell in cells) + " |")
    return "\n".join(rows)


# Calls that belong to no flow: they happen whenever neighbours have changed.
_ANY_TIME = {"DialBack"}


class Recorder:
    """Remembers who called what on whom while a flow is recorded."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.calls: list[tuple[str, str, str]] = []

    def stub(self, caller: str, address: str, real: Any) -> Any:
        """Returns `real`, a stub, with every call noted."""
        recorder = self

        class Noted:
            def __getattr__(self, rpc: str) -> Any:
                def call(*arguments: Any, **options: Any) -> Any:
                    name = "GetBlock" if rpc == "announced_block" else rpc
                    if name not in _ANY_TIME:
                        recorder.calls.append((caller, recorder.names.get(address, address), name))
                    return getattr(real, rpc)(*arguments, **options)

                return call

        return Noted()

    @contextlib.contextmanager
    def flow(self) -> Iterator[list[tuple[str, str, str]]]:
        """Gives the distinct calls of what happens inside, in the order of their first appearance."""
        self.calls.clear()
        found: list[tuple[str, str, str]] = []
        yield found
        found.extend(dict.fromkeys(self.calls))


class Stage:
    """A real central and peers that join, with every call of theirs recorded."""

    def __init__(self, base: Path, stack: contextlib.AsyncExitStack) -> None:
        self.base, self.stack, self.recorder = base, stack, Recorder()
        self.flows: dict[str, list[tuple[str, str, str]]] = {}

    async def open(self) -> None:
        """Starts central."""
        from central.server import running_central  # noqa: PLC0415 - the paths are set above

        central = await self.stack.enter_async_context(running_central(self.base / "central", insecure=True))
        self.recorder.names[central.address] = "central"
        self.central = central.address

    async def join(self, name: str) -> Any:
        """Starts a peer that shares one file, and returns it when the file is published."""
        from peer import daemon  # noqa: PLC0415 - the paths are set above
        from peer.settings import ServeSettings  # noqa: PLC0415

        shared = self.base / name / "shared"
        shared.mkdir(parents=True)
        (shared / f"{name}.txt").write_text(f"a file of {name}")
        home = self.base / name / "home"
        settings = ServeSettings(
            home=home, shared=shared, centrals=(self.central,), name=name, listen="127.0.0.1:0", insecure=True
        )
        with noted_channels(self.recorder, name):
            peer = await self.stack.enter_async_context(daemon.running_peer(settings))
        self.recorder.names[peer.contact().addresses[0]] = name
        await peer.session.wait_live()
        await peer.library.wait_scanned()
        for file in list(peer.library.files.values()):
            await peer.publisher.published(file.path, file.content_id, 10)
        return peer


@contextlib.contextmanager
def noted_channels(recorder: Recorder, caller: str) -> Iterator[None]:
    """Lets daemons that are made inside note their calls under the name of `caller`."""
    from peer import daemon  # noqa: PLC0415 - the paths are set above

    real = daemon.Channels

    class NotedChannels(real):  # type: ignore[valid-type, misc]
        def central(self, address: str) -> Any:
            return recorder.stub(caller, address, super().central(address))

        def peer(self, address: str, peer_id: str) -> Any:
            return recorder.stub(caller, address, super().peer(address, peer_id))

    setattr(daemon, "Channels", NotedChannels)  # noqa: B010 - a test double for the length of the block
    try:
        yield
    finally:
        setattr(daemon, "Channels", real)  # noqa: B010


async def record() -> dict[str, list[tuple[str, str, str]]]:
    """Runs central and three peers, and returns the distinct calls of each flow: caller, called, RPC."""
    from relevo.v1 import central_directory_pb2 as pb2  # noqa: PLC0415 - the paths are set above
    from relevo.v1.content_pb2 import FileEntry  # noqa: PLC0415

    async with contextlib.AsyncExitStack() as stack:
        stage = Stage(Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
        await stage.open()
        flows, flow = stage.flows, stage.recorder.flow
        ana, ben = await stage.join("ana"), await stage.join("ben")
        with flow() as flows["join"]:
            cho = await stage.join("cho")
        with flow() as flows["look_up"]:
            listed, _ = await cho.routes.list_files(pb2.ListFilesRequest(reference="ana.txt"))
        file = listed.files[0]
        entry = FileEntry(path=file.path, content_id=file.content_id, size_bytes=file.size_bytes)
        (stage.base / "out").mkdir()
        with flow() as flows["download"]:
            await cho.downloads.start(entry, str(stage.base / "out")).task
        await cho.publisher.published(entry.path, entry.content_id, 10)
        # Ana is the only other one that has room, so that it is always ana who stores.
        ben.storing.quota = 0
        (stage.base / "report.pdf").write_bytes(b"a report")
        with flow() as flows["upload"]:
            upload = cho.uploads.start(stage.base / "report.pdf", 1)
            await upload.task
            while upload.content_id not in ana.publisher._published.stored:  # noqa: SLF001, ASYNC110
                await asyncio.sleep(0.01)
        with flow() as flows["leave"]:
            await cho.leave()
    return {
        name: [call for call in calls if call[0] != "ben" or call[2] != "PublishFiles"] for name, calls in flows.items()
    }


def diagram(calls: list[tuple[str, str, str]]) -> str:
    """Returns a Mermaid sequence diagram."""
    lines = [f"    {caller}->>{called}: {rpc}" for caller, called, rpc in calls]
    return "\n".join(["```mermaid", "sequenceDiagram", *lines, "```"])


def derived() -> dict[str, str]:
    """Returns every derived part by its name."""
    flows = asyncio.run(record())
    return {
        "modules": modules(),
        "states": states(),
        **{f"flow_{name}": diagram(calls) for name, calls in flows.items()},
    }


def main() -> None:
    """Rewrites the derived parts of the page."""
    parts = derived()
    PAGE.write_text(MARK.sub(lambda mark: f"{mark[1]}{parts[mark[2]]}\n{mark[3]}", PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
