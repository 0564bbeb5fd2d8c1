"""What a daemon is started with, what its home remembers of it, and where its control socket stands."""

import contextlib
import getpass
import hashlib
import json
import logging
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from core.errors import InvalidInput, Refused
from core.limits import Limits
from core.listening import check_plaintext
from core.names import MAX_PEER_NAME, check_peer_name, printable
from core.private_files import write_private

log = logging.getLogger("relevo.settings")

# Blocks given at once: each costs up to 2 MiB while it leaves.
SLOTS = 128
# Blocks given at once to one peer: twice as many as a download asks of one holder.
SLOTS_EACH = 32
# Directory calls carried to central at once: half of what central takes from this peer, so that its own get through.
CARRIED = 256
# The same for one peer, which makes a few at once.
CARRIED_EACH = 32
# Downloads that run at once; the others wait.
MAX_DOWNLOADS = 16
# Peers that nobody can dial and that are attached at once: four times as many as central gives one relay.
ATTACHED = 64
# Questions under way to such peers, and those of one asker: four downloads at once.
RELAY_SLOTS = 256
RELAY_SLOTS_EACH = 64
# Bytes of answers that are being relayed, and those of one asker.
RELAY_BYTES = 64 << 20
RELAY_BYTES_EACH = 16 << 20
SOCKET_NAME = "relevo.sock"
# Paths of Unix sockets end at 107 bytes on Linux and at 103 on macOS; a longer one cannot be bound.
MAX_SOCKET_PATH = 103
_REMEMBERED = "settings.json"


@dataclass(frozen=True)
class RelayLimits:
    """What a peer does at once as a relay.

    Attributes:
        attached: most peers that are attached to it.
        slots: most questions under way to them, half of them to one.
        slots_each: most of one asker.
        bytes: most bytes of answers that are being relayed, half of them from one.
        bytes_each: most of one asker.
    """

    attached: int = ATTACHED
    slots: int = RELAY_SLOTS
    slots_each: int = RELAY_SLOTS_EACH
    bytes: int = RELAY_BYTES
    bytes_each: int = RELAY_BYTES_EACH


@dataclass(frozen=True)
class ServeSettings:
    """What `relevo serve` was told, complete.

    Attributes:
        home: the daemon's own directory, absolute.
        shared: the directory that it shares, absolute.
        centrals: `host:port` of each central, the first to try first; none only with `join`, which names some.
        friends: `PEER_ID@HOST:PORT` of peers to ask when neither a neighbour nor central answers; in plaintext also
            `HOST:PORT`.
        via: `HOST:PORT` or `PEER_ID@HOST:PORT` of peers through which to reach central when it does not answer itself,
            the first to try first.
        name: what the peer calls itself, 1 to 64 characters.
        listen: `host:port` to bind; port 0 lets the system choose.
        advertise: host under which others reach the peer; empty: found from the route to central.
        entrance: `host:port` on which newcomers are let through to central's enrolment, with port 0 on the very port
            that it has at central; empty: nobody is.
        store_quota: most bytes to store for others.
        slots: most blocks given at once.
        slots_each: most blocks given at once to one peer.
        carried: most directory calls carried for others at once.
        carried_each: most directory calls carried for one peer at once.
        upload_limit: most bytes a second to others, all together; 0: no limit.
        download_limit: most bytes a second from others, all together; 0: no limit.
        max_downloads: most downloads that run at once.
        relay: what is done at once as a relay.
        limits: what the server for other peers takes from the network at once.
        join: the token with which to become a member; empty when the home is one's already.
        insecure: serve and call in plaintext, without certificates.
        insecure_anywhere: whether plaintext may be served to other machines too.
    """

    home: Path
    shared: Path
    centrals: tuple[str, ...]
    friends: tuple[str, ...] = ()
    via: tuple[str, ...] = ()
    name: str = ""
    listen: str = "[::]:0"
    advertise: str = ""
    entrance: str = ""
    store_quota: int = 10 << 30
    slots: int = SLOTS
    slots_each: int = SLOTS_EACH
    carried: int = CARRIED
    carried_each: int = CARRIED_EACH
    upload_limit: int = 0
    download_limit: int = 0
    max_downloads: int = MAX_DOWNLOADS
    relay: RelayLimits = field(default_factory=RelayLimits)
    limits: Limits = field(default_factory=Limits)
    join: str = field(default="", repr=False)
    insecure: bool = False
    insecure_anywhere: bool = False

    def check(self) -> None:
        """Checks what one setting asks of another.

        Raises:
            InvalidInput: plaintext is to be served to other machines, or allowed to be where there is none; a friend is
                to be called without knowing who it is; or newcomers are to be let in where nobody is a member.
        """
        if self.insecure and self.entrance:
            raise InvalidInput("entrance", "with --insecure nobody has to join: leave --entrance out")
        if not self.insecure:
            for friend in self.friends:
                if "@" not in friend:
                    raise InvalidInput(
                        "friend",
                        f"say who is expected at {friend}: PEER_ID@{friend} (`relevo status` there shows its peer id)",
                    )
        check_plaintext(self.listen, insecure=self.insecure, anywhere=self.insecure_anywhere)


@dataclass(frozen=True)
class Remembered:
    """What a home remembers of the last start, so that `relevo serve` alone goes on as before."""

    shared: Path | None = None
    centrals: tuple[str, ...] = ()
    friends: tuple[str, ...] = ()
    via: tuple[str, ...] = ()
    name: str = ""


def remember(settings: ServeSettings) -> None:
    """Writes into the home who and where the daemon is: the directory, the centrals, the peers to ask, a chosen name.

    The write is atomic: after a crash the home holds the old settings or the new ones. How the daemon listens is not
    remembered, since that belongs to the command that starts it.
    """
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = {
        "directory": str(settings.shared),
        "central": settings.centrals,
        "friend": settings.friends,
        "via": settings.via,
        "name": "" if settings.name == default_name() else settings.name,
    }
    write_private(settings.home / _REMEMBERED, f"{json.dumps(kept, indent=2)}\n".encode("ascii"))


def recall(home: Path) -> Remembered:
    """Returns what `home` remembers; nothing when it is new, or (logged) when its file cannot be understood."""
    path = home / _REMEMBERED
    try:
        kept = json.loads(path.read_text("ascii"))
        return Remembered(
            shared=Path(_text(kept["directory"])),
            centrals=tuple(map(_text, kept["central"])),
            friends=tuple(map(_text, kept["friend"])),
            via=tuple(map(_text, kept.get("via", ()))),
            name=_text(kept["name"]),
        )
    except FileNotFoundError:
        return Remembered()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        log.warning("%s is not understood and not used: %s", path, error)
        return Remembered()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def default_name() -> str:
    """Returns what a peer is called when nobody says: the machine's host name, else `user@host`."""
    host = printable(socket.gethostname())[:MAX_PEER_NAME]
    try:
        return check_peer_name(host)
    except InvalidInput:
        return f"{getpass.getuser()}@host"[:MAX_PEER_NAME]


def control_address(home: Path) -> str:
    """Returns the gRPC address of `control_socket`; quoted, because gRPC reads `%`, `?` and `#` in such addresses."""
    return "unix:" + quote(os.fsencode(control_socket(home)))


def control_socket(home: Path) -> Path:
    """Returns the path of the socket on which the daemon of `home` is controlled.

    It stands in `home/control`; when that is too long for a socket, in a directory of its own under `$XDG_RUNTIME_DIR`
    or the temporary directory, found again from the home. Where the home exists the directory is made, 0700, so that it
    is there before anybody binds.

    Raises:
        Refused: the directory is a symlink, somebody else's, or open to others.
    """
    home = home.resolve()
    places = [place / SOCKET_NAME for place in _control_directories(home)]
    fitting = [path for path in places if len(os.fsencode(path)) <= MAX_SOCKET_PATH] or places[-1:]
    # A command may run where $XDG_RUNTIME_DIR is not what the daemon saw: wherever the socket is counts.
    chosen = next(filter(os.path.lexists, fitting), fitting[0])
    if home.is_dir():
        with contextlib.suppress(FileExistsError):  # whatever stands there is looked at next
            chosen.parent.mkdir(mode=0o700)
    _check_private(chosen.parent)
    return chosen


def _control_directories(home: Path) -> Iterator[Path]:
    inside = home / "control"
    if len(os.fsencode(inside / SOCKET_NAME)) <= MAX_SOCKET_PATH:
        yield inside
        return
    short = f"relevo-{os.getuid()}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and Path(runtime).is_dir():
        yield Path(runtime) / short
    yield Path(tempfile.gettempdir()) / short


def _check_private(directory: Path) -> None:
    """Raises Refused unless `directory` is absent, or a real directory that only this user can enter."""
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        raise Refused(f"{directory} is not a directory: remove it, since whoever made it could control this peer")
    if found.st_uid != os.getuid():
        raise Refused(f"{directory} belongs to another user, who could control this peer: remove it")
    if found.st_mode & 0o077:
        raise Refused(f"{directory} is open to other users: close it with `chmod 700 {directory}`")
