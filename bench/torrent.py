"""libtorrent as a rival: one process seeds, one fetches. TCP, no encryption, everything else as it comes.

`python -m bench.torrent give FILE TORRENT` makes the torrent, says where it listens, and seeds until it is stopped;
`python -m bench.torrent take TORRENT ADDRESS TARGET` fetches.
"""

import sys
import time
from pathlib import Path
from typing import Any

import click

from bench.measured import Trial, Watched
from bench.programs import Programs
from bench.taking import synced, tell, told

PIECE = 1 << 20
_SETTINGS = {
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "in_enc_policy": 2,  # pe_disabled
    "out_enc_policy": 2,
    "alert_mask": 0x40 | 0x8,  # status and storage: finished, and flushed
}


class Torrent:
    """libtorrent, which verifies what it fetches by SHA-1, the cheaper of the hashes that it knows here."""

    name = "libtorrent"

    def __init__(self, programs: Programs, file: Path) -> None:
        self._programs = programs
        self._size = file.stat().st_size
        self._torrent = programs.base / "rival.torrent"
        self._seed = programs.serve("torrent", "bench.torrent", "give", file, self._torrent)

    def fetch(self, directory: Path) -> Trial:
        """Fetches the file into an empty directory."""
        giving = Watched(self._seed.process.pid)
        take = self._programs.begin("bench.torrent", "take", self._torrent, self._seed.address, directory)
        seconds, taking = told(self._programs.finish(take))
        return Trial(self._size, seconds, giving.side(), taking)


def _session() -> Any:
    import libtorrent  # noqa: PLC0415 - only these processes need it

    settings: Any = _SETTINGS  # the stub wants a class that is no dictionary
    return libtorrent.session(settings)


@click.group()
def main() -> None:
    """Seeds, or fetches from a seed."""


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("torrent", type=click.Path(path_type=Path))
def give(file: Path, torrent: Path) -> None:
    """Seeds FILE until it is stopped."""
    import libtorrent  # noqa: PLC0415

    files = libtorrent.file_storage()
    libtorrent.add_files(files, str(file))
    made = libtorrent.create_torrent(files, PIECE, libtorrent.create_torrent.v1_only)
    libtorrent.set_piece_hashes(made, str(file.parent))
    torrent.write_bytes(libtorrent.bencode(made.generate()))
    session = _session()
    seed = libtorrent.add_torrent_params()
    seed.ti, seed.save_path = libtorrent.torrent_info(str(torrent)), str(file.parent)
    seed.flags |= libtorrent.torrent_flags.seed_mode
    session.add_torrent(seed)
    while not session.listen_port():
        time.sleep(0.01)
    print(f"torrent ready on 127.0.0.1:{session.listen_port()}", flush=True)
    while True:
        time.sleep(60)


@main.command()
@click.argument("torrent", type=click.Path(path_type=Path))
@click.argument("address")
@click.argument("directory", type=click.Path(path_type=Path))
def take(torrent: Path, address: str, directory: Path) -> None:
    """Fetches what TORRENT describes from ADDRESS into DIRECTORY."""
    import libtorrent  # noqa: PLC0415

    session = _session()
    host, _, port = address.partition(":")
    wanted = libtorrent.add_torrent_params()
    description = libtorrent.torrent_info(str(torrent))
    wanted.ti, wanted.save_path = description, str(directory)
    wanted.flags &= ~libtorrent.torrent_flags.auto_managed
    wanted.flags &= ~libtorrent.torrent_flags.paused

    def wait_for(kind: type) -> None:
        while not any(isinstance(alert, kind) for alert in session.pop_alerts()):
            session.wait_for_alert(1000)

    def fetch() -> None:
        handle = session.add_torrent(wanted)
        handle.connect_peer((host, int(port)))
        wait_for(libtorrent.torrent_finished_alert)
        handle.flush_cache()
        wait_for(libtorrent.cache_flushed_alert)
        synced(directory / description.name())

    tell(fetch)


if __name__ == "__main__":
    sys.exit(main())
