"""Relevo itself as a contender: a central, a peer that shares one file, and a peer that fetches it."""

import core  # noqa: F401 - before gRPC, which reads its environment once

# isort: split
import time
from functools import partial
from pathlib import Path

from bench.measured import Trial, Watched
from bench.programs import Failed, Program, Programs, until
from core.times import from_timestamp
from peer.commands.client import Daemon
from relevo.v1 import peer_control_pb2 as pb2
from relevo.v1.content_pb2 import CatalogueFile

# While a transfer runs it is looked at so often, in seconds; its daemon notes itself when it began and ended.
_LOOK = 0.1
_PATIENCE = 300.0
_HIDDEN = "127.0.0.2:0"
# A primary and a backup.
_RELAYS = 2
_OVER = {pb2.TRANSFER_STATE_DONE, pb2.TRANSFER_STATE_FAILED, pb2.TRANSFER_STATE_CANCELLED}


class Pair:
    """A network of its own, in plaintext or with TLS as it comes.

    Attributes:
        giver: the peer that shares.
    """

    def __init__(
        self,
        programs: Programs,
        label: str,
        shared: Path,
        *,
        tls: bool,
        listen: str = "127.0.0.1:0",
        host: str = "",
        relays: int = 0,
        hidden: tuple[str, ...] = (),
    ) -> None:
        """Starts the programs. The giver binds `listen`; the taker is told that it is at `host`, if that is given.

        There are `relays` further peers. The `hidden` ones of `giver` and `taker` cannot be dialled, as far as others
        find out: they are at another address of this machine than the one that their calls come from.
        """
        self.name = label
        self._base = programs.base / label
        data = self._base / "central"
        plain = () if tls else ("--insecure",)
        central = programs.serve(
            f"{label}-central", "central", "serve", "--data", data, "--listen", "127.0.0.1:0", *plain
        )

        def peer(name: str, directory: Path, *options: str | Path) -> Program:
            way: tuple[str, ...] = ("--central", central.address, "--insecure")
            if tls:
                way = ("--join", programs.finish(programs.begin("central", "invite", "--data", data)).strip())
            home = self._base / name
            return programs.serve(f"{label}-{name}", "peer", "--home", home, "serve", directory, *way, *options)

        empty = self._base / "empty"
        empty.mkdir(parents=True)
        self.relays = [peer(f"relay{number}", empty, "--listen", "127.0.0.1:0") for number in range(relays)]
        advertise = ("--advertise", host) if host else ()
        self.giver = peer("giver", shared, "--listen", _HIDDEN if "giver" in hidden else listen, *advertise)
        self._taker = peer("taker", empty, "--listen", _HIDDEN if "taker" in hidden else "127.0.0.1:0")
        for name in hidden:
            with Daemon(self._base / name) as daemon:
                until(f"{name} attached to its relays", partial(_is_hidden, daemon), 60, self.giver.log)

    def files(self, count: int = 1) -> list[CatalogueFile]:
        """Returns the files of the network, once there are `count`."""
        with Daemon(self._base / "taker") as daemon:

            def found() -> list[CatalogueFile] | None:
                files = list(daemon.files(""))
                return files if len(files) >= count else None

            return until("the files in the catalogue", found, 300, self.giver.log)

    def fetch(self, directory: Path) -> Trial:
        """Fetches every file of the network into an empty directory, all at once."""
        files = self.files()
        giving, taking = Watched(self.giver.process.pid), Watched(self._taker.process.pid)
        with Daemon(self._base / "taker") as daemon:
            running = [daemon.start_download(file, directory).transfer_id for file in files]
            ended = [self._ended(daemon, transfer_id) for transfer_id in running]
        seconds = max(from_timestamp(one.end_time) for one in ended) - min(
            from_timestamp(one.start_time) for one in ended
        )
        return Trial(sum(file.size_bytes for file in files), seconds, giving.side(), taking.side())

    def _ended(self, daemon: Daemon, transfer_id: str) -> pb2.Transfer:
        until_time = time.monotonic() + _PATIENCE
        while (transfer := daemon.transfer(transfer_id)).state not in _OVER:
            if time.monotonic() > until_time:
                raise Failed(f"{self.name}: a transfer does not end", self._taker.log)
            time.sleep(_LOOK)
        if transfer.state != pb2.TRANSFER_STATE_DONE:
            raise Failed(f"{self.name}: a transfer failed: {transfer.error_message}", self._taker.log)
        if sum(source.bytes for source in transfer.sources) != transfer.size_bytes:
            raise Failed(f"{self.name}: the file did not come from the other peer")
        return transfer


def _is_hidden(daemon: Daemon) -> bool:
    """Tells whether a peer knows that nobody can dial it, and has both of its relays."""
    found = daemon.status()
    return found.reachability == pb2.REACHABILITY_HIDDEN and len(found.relay.attached_to) == _RELAYS
