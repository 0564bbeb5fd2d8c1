"""The authorities of a network: the key that signs certificates, its file, and its change.

Only the newest authority issues. Its key is `authorities/<generation>.pem`; a predecessor's key is destroyed as soon as
it has vouched for its successor, and what is left of it is its certificate in the register.
"""

import logging
from pathlib import Path

from central.network.register import AuthorityRecord, Register
from central.network.register_schema import FILE_NAME
from core.certificates import Authority, Subject
from core.errors import NotPossible
from core.private_files import write_private

log = logging.getLogger("relevo.central")

# Ten years, in seconds: `rotate-ca` replaces an authority long before.
LIFE = 10 * 365 * 86_400.0
# The key behind central's own certificates.
OWN_KEY = "central-key.pem"
# A chain leads back over so many predecessors. A member that was away for more changes than that has to join anew.
MOST_LINKS = 8


class Authorities:
    """Issues certificates by the newest authority in the register."""

    def __init__(self, register: Register, data: Path) -> None:
        self._register = register
        self._directory = data / "authorities"
        self._own_key = data / OWN_KEY
        self._current: Authority | None = None

    def create(self, now: float) -> bool:
        """Makes the authority of a new network, unless there is one; tells whether it did.

        Raises:
            NotPossible: the network's register is lost.
        """
        with self._register.changing():
            if self._register.authorities():
                return False
            if self._own_key.exists():  # it is made after the network's first authority
                raise NotPossible(
                    f"the network in {self._directory.parent} has lost its register: restore {FILE_NAME} from a "
                    f"backup, or remove {self._own_key} and {self._directory} to begin another network"
                )
            self._add(Authority.create(now, LIFE), b"")
        return True

    def rotate(self, now: float) -> int:
        """Has a successor issue from now on, and returns its generation; the older ones still count.

        Central makes another key of its own too, as soon as it has heard of the change.

        Raises:
            NotPossible: the network's key is missing.
        """
        with self._register.changing():
            before = self._newest(self._register.authorities())
            successor = Authority.create(now, LIFE, before)
            self._add(successor, before.vouch_for(successor, now, LIFE))
            # Whoever has read one key has read the other, and central's certificate is shown to everybody.
            self._own_key.unlink(missing_ok=True)
        self._destroy_older(successor.generation)
        return successor.generation

    def issue(self, subject: Subject, public_key: bytes, now: float, life: float) -> tuple[bytes, ...]:
        """Returns a certificate with the links that lead from it to older authorities; inside `register.changing()`.

        Raises:
            Unauthenticated: it is not an ECDSA P-256 key.
            NotPossible: the network's key is missing.
        """
        records = self._register.authorities()
        authority = self._newest(records)
        certificate = authority.issue(subject, public_key, now, life)
        self._register.issued(authority.generation, now + life)
        return (certificate, *(record.link for record in records[:MOST_LINKS] if record.link))

    def network_id(self) -> str:
        """Returns the id of the network.

        Raises:
            NotPossible: the network's key is missing.
        """
        return self._newest(self._register.authorities()).network_id

    def key_file(self) -> Path:
        """Returns the file of the key that issues.

        Raises:
            NotPossible: it is missing.
        """
        return self._path(self._newest(self._register.authorities()).generation)

    def _newest(self, records: list[AuthorityRecord]) -> Authority:
        newest = records[0]
        if self._current is None or self._current.generation != newest.generation:
            path = self._path(newest.generation)
            try:
                found = Authority.from_pem(path.read_bytes())
            except (OSError, ValueError) as error:
                raise NotPossible(f"the network's key in {path} cannot be used ({error}); restore it") from error
            if found.certificate != newest.certificate:
                raise NotPossible(f"the key in {path} is another network's; restore the right one")
            self._current = found
            self._destroy_older(newest.generation)
        return self._current

    def _add(self, authority: Authority, link: bytes) -> None:
        """Writes the key, then the record: a crash in between leaves a file that the next attempt replaces."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        write_private(self._path(authority.generation), authority.pem())
        self._register.add_authority(AuthorityRecord(authority.generation, authority.certificate, link))

    def _destroy_older(self, generation: int) -> None:
        for older in range(max(1, generation - MOST_LINKS), generation):
            self._path(older).unlink(missing_ok=True)

    def _path(self, generation: int) -> Path:
        return self._directory / f"{generation}.pem"
