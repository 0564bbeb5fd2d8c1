"""Probes: whom central asks to look for a peer that it hears nothing of, and which answer counts. Pure.

A round asks up to three peers to have the suspect sign the nonce of that round. The next round, with another nonce,
begins no sooner than a probe may take: so a signature proves life since its round began, and an older one proves
nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from core.life import NONCE_BYTES

PROBERS = 3


@dataclass(frozen=True, slots=True)
class Round:
    """One nonce for one suspect, which may be brought back signed until the next one."""

    suspect: str
    nonce: bytes
    began: float
    probers: tuple[str, ...]


class Probing:
    """The latest round of each suspect."""

    def __init__(self, random: Random, patience: float = 2.0) -> None:
        """Rounds are at least `patience` seconds apart. `random` has to be one that nobody can guess."""
        self.patience = patience
        self._random = random
        self._rounds: dict[str, Round] = {}
        self._asked: dict[str, list[Round]] = {}

    def sweep(self, suspects: Mapping[str, Sequence[str]], others: Sequence[str], now: float) -> list[Round]:
        """Returns the rounds that begin now, for each suspect that is due one and has somebody who can look for it.

        Args:
            suspects: all of them, each with the peers near it that are in order; nobody else is looked for any more.
            others: peers in order, asked where too few are near: those who are cut off together are near each other.
            now: in seconds.
        """
        begun = []
        kept = {}
        for suspect, near in suspects.items():
            latest = self._rounds.get(suspect)
            due = latest is None or now >= latest.began + self.patience
            if due and (probers := self._chosen(near, others)):
                latest = Round(suspect, self._random.randbytes(NONCE_BYTES), now, probers)
                begun.append(latest)
            if latest is not None:
                kept[suspect] = latest
        self._rounds = kept
        self._asked = {}
        for each in kept.values():
            for prober in each.probers:
                self._asked.setdefault(prober, []).append(each)
        return begun

    def _chosen(self, near: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
        chosen = self._random.sample(near, min(PROBERS, len(near)))
        far = self._random.sample(others, min(PROBERS, len(others)))  # so many that enough are left without the near
        return tuple(dict.fromkeys([*chosen, *far]))[:PROBERS]

    def asked(self, prober: str, now: float) -> list[Round]:
        """Returns the rounds in which a peer is to look for a suspect at this moment."""
        return [each for each in self._asked.get(prober, ()) if now < each.began + self.patience]

    def began(self, suspect: str, nonce: bytes) -> float | None:
        """Returns since when a peer has lived that has signed this nonce; None when it is not the latest for it."""
        latest = self._rounds.get(suspect)
        return latest.began if latest and latest.nonce == nonce else None
