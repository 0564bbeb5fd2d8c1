"""What several transfers come to together: files, bytes, rate, and how much came from whom. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from peer.commands import show
from relevo.v1 import peer_control_pb2 as pb2

# Holders whose share is named.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Total:
    """Several transfers together.

    Attributes:
        files: how many there are, as far as is known.
        listed: whether all are known.
        done_files: how many are in place.
        size: bytes in all.
        done: bytes in place.
        rate: bytes a second.
        holders: how many give something.
    """

    files: int = 0
    listed: bool = True
    done_files: int = 0
    size: int = 0
    done: int = 0
    rate: int = 0
    holders: int = 0


def total(transfers: Sequence[pb2.Transfer], waiting: Iterable[int] = ()) -> Total:
    """Returns what transfers come to; `waiting` are the sizes of files that have not been started, in bytes."""
    sizes = list(waiting)
    sets = [one.set for one in transfers if one.HasField("set")]
    alone = [one for one in transfers if not one.HasField("set")]
    return Total(
        files=len(sizes) + len(alone) + sum(one.found_count for one in sets),
        listed=all(one.listed for one in sets),
        done_files=sum(one.state == pb2.TRANSFER_STATE_DONE for one in alone) + sum(one.done_count for one in sets),
        size=sum(sizes) + sum(one.size_bytes for one in transfers),
        done=sum(one.done_bytes for one in transfers),
        rate=sum(one.rate_bytes_per_second for one in transfers),
        holders=len({
            source.peer.peer_id for one in transfers for source in one.sources if not source.dropped_reason
        }),
    )  # fmt: skip


def figures(total: Total) -> str:
    """Returns a total in figures: `4,160 of 10,000 files  16.2 MiB of 39.1 MiB  10.4 MiB/s  2.2 s left  2 holders`."""
    more = "" if total.listed else ", more to be listed"
    shown = [
        f"{total.done_files:,} of {show.count(total.files, 'file')}{more}",
        f"{show.size(total.done)} of {show.size(total.size)}",
    ]
    if total.rate:
        shown.append(show.rate(total.rate))
        if total.listed:
            shown.append(f"{show.span(max(0, total.size - total.done) / total.rate)} left")
    if total.holders:
        shown.append(show.count(total.holders, "holder"))
    return "  ".join(shown)


def shares(transfers: Iterable[pb2.Transfer]) -> str:
    """Returns from whom bytes came: `1 holder`, or `3 holders (ana 60%, ben 39%, cho <1%)`; empty when from nobody."""
    given: Counter[tuple[str, str]] = Counter()
    for transfer in transfers:
        for source in transfer.sources:
            given[source.peer.peer_id, source.peer.name] += source.bytes
    given = +given
    whole = given.total()
    if len(given) <= 1:
        return show.count(len(given), "holder") if given else ""
    named = [f"{name} {_percent(count, whole)}" for (_, name), count in given.most_common(_NAMED)]
    if len(given) > _NAMED:
        named.append(f"{len(given) - _NAMED:,} more")
    return f"{show.count(len(given), 'holder')} ({', '.join(named)})"


def ways(whole: int, pushed: int, relayed: int) -> str:
    """Returns how bytes came: `relayed`, or `60% direct, 40% reversed`; empty when all of them directly."""
    by = {"direct": whole - pushed - relayed, "reversed": pushed, "relayed": relayed}
    used = {way: count for way, count in by.items() if count > 0}
    if not used.keys() - {"direct"}:
        return ""
    if len(used) == 1:
        return next(iter(used))
    return ", ".join(f"{_percent(count, whole)} {way}" for way, count in used.items())


def ways_of(transfers: Iterable[pb2.Transfer]) -> str:
    """Returns how the bytes of transfers came, as `ways` does."""
    sources = [source for transfer in transfers for source in transfer.sources]
    return ways(
        sum(source.bytes for source in sources),
        sum(source.reversed_bytes for source in sources),
        sum(source.relayed_bytes for source in sources),
    )


def _percent(count: int, whole: int) -> str:
    return f"{count * 100 // whole}%" if count * 100 >= whole else "<1%"
