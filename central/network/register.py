"""The register of a network, `register.db`: its authorities, invitations, members and revocations.

The command line opens it beside a running central: whatever changes is one short transaction, committed to disk before
anybody is told, and `version` grows with everything that members have to hear of.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from central.network.register_schema import connect
from core.errors import NotFound, Unreachable
from core.signing import WINDOW_SECONDS

# What has expired by central's clock may count by another for so long, in seconds; clocks further off cannot sign in.
MARGIN = WINDOW_SECONDS
# Half of what a heartbeat may carry. Central itself knows everybody who is revoked.
_MOST_TOLD = 10_000


@dataclass(frozen=True, slots=True)
class AuthorityRecord:
    """An authority: certificate and link in DER; `link` is by its predecessor, empty for the first one."""

    generation: int
    certificate: bytes
    link: bytes
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation as it is kept; times in seconds since 1970."""

    secret_hash: bytes
    expires: float
    uses_left: int


@dataclass(frozen=True, slots=True)
class Member:
    """A key that has joined. `certificate_end` is when its last certificate ends; times in seconds since 1970."""

    peer_id: str
    name: str
    joined: float
    certificate_end: float
    revoked: float | None = None


class Register:
    """The register of one data directory; one thread at a time uses it.

    What belongs together stands in `with register.changing():`, which is one transaction. Every method raises
    Unreachable when the disk is full or fails; nothing has changed then.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    @classmethod
    def open(cls, data: Path, *, beside: bool = False) -> "Register":
        """Returns the register in `data`, which is made, 0600, when it is not there.

        With `beside`, a central may be using it: what an older version has written is refused then, not changed.

        Raises:
            NotPossible: it cannot be used, or a newer version has written it.
        """
        return cls(connect(data, beside=beside))

    def close(self) -> None:
        """Closes the database."""
        self._db.close()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Commits everything inside together, or nothing of it; nobody else changes anything meanwhile."""
        with _disk_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def version(self) -> int:
        """Returns the version, which grows with every change of whom members are to trust."""
        with _disk_errors():
            return int(self._db.execute("SELECT version FROM state").fetchone()[0])

    def address(self) -> tuple[str, int]:
        """Returns where central last listened, as `host:port`, and the port of Enrolment; empty and 0 for never."""
        with _disk_errors():
            address, port = self._db.execute("SELECT address, enrolment_port FROM state").fetchone()
        return address, port

    def set_address(self, address: str, enrolment_port: int) -> None:
        """Notes where central listens."""
        self._db.execute("UPDATE state SET address = ?, enrolment_port = ?", (address, enrolment_port))

    def authorities(self) -> list[AuthorityRecord]:
        """Returns every authority that there ever was, the one that issues first."""
        with _disk_errors():
            rows = self._db.execute(
                "SELECT generation, certificate, link, retired FROM authorities ORDER BY generation DESC"
            ).fetchall()
        return [
            AuthorityRecord(generation, certificate, link, bool(retired))
            for generation, certificate, link, retired in rows
        ]

    def add_authority(self, record: AuthorityRecord) -> None:
        """Makes an authority the one that issues."""
        self._db.execute(
            "INSERT INTO authorities (generation, certificate, link) VALUES (?, ?, ?)",
            (record.generation, record.certificate, record.link),
        )
        self._changed()

    def issued(self, generation: int, end: float) -> None:
        """Notes that an authority has issued a certificate that ends then."""
        self._db.execute("UPDATE authorities SET last_end = max(last_end, ?) WHERE generation = ?", (end, generation))

    def retire(self, now: float) -> None:
        """Takes out what all certificates of have expired: authorities that do not issue any more, and revocations."""
        with self.changing():
            authorities = self._db.execute(
                "UPDATE authorities SET retired = 1 "
                "WHERE NOT retired AND last_end <= ? AND generation < (SELECT max(generation) FROM authorities)",
                (now - MARGIN,),
            )
            members = self._db.execute(
                "UPDATE members SET lapsed = 1 WHERE revoked IS NOT NULL AND NOT lapsed AND certificate_end <= ?",
                (now - MARGIN,),
            )
            if authorities.rowcount or members.rowcount:
                self._changed()

    def add_invitation(self, invitation_id: bytes, invitation: Invitation, now: float) -> None:
        """Adds an invitation, and forgets those that have been over for a day."""
        self._db.execute("DELETE FROM invitations WHERE expires < ?", (now - 86_400.0,))
        self._db.execute(
            "INSERT INTO invitations VALUES (?, ?, ?, ?)",
            (invitation_id, invitation.secret_hash, invitation.expires, invitation.uses_left),
        )

    def invitation(self, invitation_id: bytes) -> Invitation | None:
        """Returns an invitation, used up and expired ones too, or None."""
        found = self._db.execute(
            "SELECT secret_hash, expires, uses_left FROM invitations WHERE id = ?", (invitation_id,)
        ).fetchone()
        return Invitation(*found) if found else None

    def use(self, invitation_id: bytes) -> None:
        """Takes one use from an invitation."""
        self._db.execute("UPDATE invitations SET uses_left = uses_left - 1 WHERE id = ?", (invitation_id,))

    def member(self, peer_id: str) -> Member | None:
        """Returns a member, revoked ones too, or None."""
        found = self._db.execute(f"{_MEMBERS} WHERE peer_id = ?", (peer_id,)).fetchone()
        return Member(*found) if found else None

    def members(self) -> list[Member]:
        """Returns every member, revoked ones too, the earliest first."""
        with _disk_errors():
            return [Member(*row) for row in self._db.execute(f"{_MEMBERS} ORDER BY joined, peer_id")]

    def add_member(self, peer_id: str, name: str, now: float) -> None:
        """Adds a member."""
        self._db.execute("INSERT INTO members (peer_id, name, joined) VALUES (?, ?, ?)", (peer_id, name, now))

    def certified(self, peer_id: str, end: float) -> None:
        """Notes that a member has got a certificate that ends then."""
        self._db.execute(
            "UPDATE members SET certificate_end = max(certificate_end, ?) WHERE peer_id = ?", (end, peer_id)
        )

    def revoke(self, peer_id: str, now: float) -> None:
        """Revokes a member; one that was revoked before stays so.

        Raises:
            NotFound: there is no such member.
        """
        if self.member(peer_id) is None:
            raise NotFound(f"no peer {peer_id} has joined this network")
        self._db.execute("UPDATE members SET revoked = ? WHERE peer_id = ? AND revoked IS NULL", (now, peer_id))
        self._changed()

    def revoked(self) -> list[str]:
        """Returns who is revoked and may still have a certificate that has not expired: the latest, which fit."""
        query = "SELECT peer_id FROM members WHERE revoked IS NOT NULL AND NOT lapsed ORDER BY revoked DESC LIMIT ?"
        return self._peer_ids(query, _MOST_TOLD)

    def ever_revoked(self) -> list[str]:
        """Returns everybody who is revoked, by peer id."""
        return self._peer_ids("SELECT peer_id FROM members WHERE revoked IS NOT NULL ORDER BY peer_id")

    def _peer_ids(self, query: str, *values: int) -> list[str]:
        with _disk_errors():
            return [row[0] for row in self._db.execute(query, values)]

    def _changed(self) -> None:
        self._db.execute("UPDATE state SET version = version + 1")


_MEMBERS = "SELECT peer_id, name, joined, certificate_end, revoked FROM members"


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Unreachable(f"central cannot use its disk ({error}); try again when that is mended") from error
