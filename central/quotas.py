"""How much one peer may have at central: rows, placements, bytes of copies. Pure.

Where connections are encrypted a peer is an identity with a certificate, of which one invitation gives one, so that
what stands here bounds what a member can do; in plaintext anybody can make further keys.

A change is refused when it would leave the peer with more than the limit *and* with more than it had: whoever is over
a limit that was lowered can still replace and remove.
"""

from dataclasses import dataclass

from core.errors import OverQuota

# A row of the catalogue takes 800 bytes of disk with a path of 60 bytes, and 35,000 with one of 4,000: 9 for each byte
# of the path, since every search index has it. So both are limited; together they are 3 GiB at most for a peer.
DEFAULT_ENTRIES = 1_000_000
DEFAULT_PATH_BYTES = 256 << 20
# 100 bytes of disk each.
DEFAULT_COPIES = 1_000_000
# Each may have 32 chosen peers, whose directives are kept in memory.
DEFAULT_PLACEMENTS = 10_000
DEFAULT_PLACED_BYTES = 10 << 40
# Central remembers 10,000 accused holders in all, so that 100 members would have to work together to fill it.
DEFAULT_REPORTS = 100
RETRY_AFTER = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """The limits for each peer, live or not.

    Attributes:
        entries: catalogue rows that it publishes.
        path_bytes: bytes of the paths of these.
        copies: contents that it says to store for others.
        placements: contents for which it wants copies.
        placed_bytes: sum of size times wanted copies over its placements.
        reports: holders that it has accused within the hour.
        retry_after: how long whoever is refused shall wait, in seconds.
    """

    entries: int = DEFAULT_ENTRIES
    path_bytes: int = DEFAULT_PATH_BYTES
    copies: int = DEFAULT_COPIES
    placements: int = DEFAULT_PLACEMENTS
    placed_bytes: int = DEFAULT_PLACED_BYTES
    reports: int = DEFAULT_REPORTS
    retry_after: float = RETRY_AFTER


@dataclass(frozen=True, slots=True)
class Held:
    """What a peer publishes: the number of its entries, the bytes of their paths, the number of copies for others."""

    entries: int = 0
    path_bytes: int = 0
    copies: int = 0

    def __add__(self, grown: "Held") -> "Held":
        """Returns the sum; a difference may be negative."""
        return Held(self.entries + grown.entries, self.path_bytes + grown.path_bytes, self.copies + grown.copies)


@dataclass(frozen=True, slots=True)
class Placed:
    """What a peer has had placed: the number of its placements, and the sum of size times wanted copies."""

    placements: int = 0
    placed_bytes: int = 0


def check_held(quotas: Quotas, before: Held, after: Held) -> None:
    """Checks what a peer would publish after a batch.

    Raises:
        OverQuota: it would be over a limit, and have more than before.
    """
    if before.entries < after.entries > quotas.entries:
        raise _over(quotas, "entries", f"{quotas.entries:,} files", "remove or ignore some of them")
    if before.path_bytes < after.path_bytes > quotas.path_bytes:
        raise _over(quotas, "path_bytes", f"{_size(quotas.path_bytes)} of paths", "remove some files, or shorten names")
    if before.copies < after.copies > quotas.copies:
        raise _over(quotas, "copies", f"{quotas.copies:,} copies for others", "drop some of them")


def check_placed(quotas: Quotas, before: Placed, after: Placed) -> None:
    """Checks what a peer would have placed after another wish.

    Raises:
        OverQuota: it would be over a limit, and have more than before.
    """
    advice = "want fewer copies of something"
    if before.placements < after.placements > quotas.placements:
        raise _over(quotas, "placements", f"{quotas.placements:,} files to be copied", "do without copies of this one")
    if before.placed_bytes < after.placed_bytes > quotas.placed_bytes:
        raise _over(quotas, "placed_bytes", f"{_size(quotas.placed_bytes)} of copies on other peers", advice)


def check_reports(quotas: Quotas, accused: int, wait: float) -> None:
    """Checks how many holders a peer would have accused; the first of these is forgotten in `wait` seconds.

    Raises:
        OverQuota: it is over the limit.
    """
    if accused > quotas.reports:
        raise _over(quotas, "reports", f"{quotas.reports:,} holders reported within the hour", "wait", wait)


def _over(quotas: Quotas, limit: str, what: str, advice: str, wait: float | None = None) -> OverQuota:
    sentence = (
        f"central lets one peer have {what}, and this would be more; {advice}, "
        f"or have central's operator raise --max-{limit.replace('_', '-')}"
    )
    told = {"quota": limit, "limit": str(getattr(quotas, limit))}
    return OverQuota(sentence, quotas.retry_after if wait is None else wait, told)


def _size(count: int) -> str:
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.4g} {unit}"
    return f"{count} bytes"
