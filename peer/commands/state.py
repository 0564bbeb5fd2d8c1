"""`relevo status`, `relevo transfers`, `relevo logout`: the daemon itself."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from core.names import printable
from peer.commands import document, limiting, show
from peer.commands.common import daemon_of, json_option, peer_line, route_line, say

if TYPE_CHECKING:
    from relevo.v1.content_pb2 import PeerInfo
    from relevo.v1.peer_control_pb2 import GetStatusResponse, Transfer

# How long `logout` waits for the daemon to be gone, in seconds.
_PATIENCE = 15.0
_SKIPPED_SHOWN = 20
# A path may have thousands of characters, and its reason is to stay in sight.
_PATH_COLUMNS = 80


@click.command()
@json_option
@click.pass_obj
def status(home: Path, as_json: bool) -> None:
    """Show this peer, what it shares, its neighbours."""
    with daemon_of(home) as daemon:
        found = daemon.status()
    if as_json:
        shown = document.fields_of(found)
        del shown["session_id"]  # a secret, which does not belong into what people paste
        document.write(shown)
    else:
        say(status_page(found, time.time()))


def status_page(found: "GetStatusResponse", now: float) -> list[str]:
    """Returns the lines of the daemon's state; `now` is in seconds since 1970."""
    facts = [
        (
            "peer",
            f"{found.peer.name}  {found.peer.peer_id[: show.SHORTEST_ID]}  {', '.join(found.peer.addresses)}".rstrip(),
        ),
        ("peer id", found.peer.peer_id),
        ("network", _session(found, now)),
        *([("clock", _clock_ahead(found))] if found.HasField("clock_ahead") else []),
        ("identity", _membership(found, now)),
        *_neighbours(found),
        ("shares", _shares(found)),
        *([("catalogue", found.publishing_problem)] if found.publishing_problem else []),
        ("stores", _stores(found)),
        ("reached", _reached(found)),
        *([("entrance", _entrance(found))] if found.HasField("entrance") else []),
        ("traffic", _traffic(found)),
        ("limits", _limits(found)),
        ("home", found.home),
        ("version", found.version),
    ]
    return [*(f"{fact:<11}{printable(text)}" for fact, text in facts), *_skipped(found)]


def _session(found: "GetStatusResponse", now: float) -> str:
    from relevo.v1.peer_control_pb2 import SESSION_STATE_LIVE  # noqa: PLC0415 - protobuf is slow to import

    since = show.age(found.session_state_time.seconds, now)
    if found.session_state == SESSION_STATE_LIVE:
        if found.HasField("carrier"):
            return f"logged in to central ({since}), which is reached through {_carrier(found.carrier)}"
        return f"logged in to central at {found.central} ({since})"
    why = f": {found.session_problem}" if found.session_problem else ""
    return f"NOT logged in to central at {found.central} ({since}){why}"


def _clock_ahead(found: "GetStatusResponse") -> str:
    seconds = found.clock_ahead.seconds
    how = "AHEAD OF" if seconds > 0 else "BEHIND"
    return f"{show.span(abs(seconds))} {how} central's: set this machine's clock; others may not get in here until then"


def _carrier(found: "PeerInfo") -> str:
    who = found.name or found.peer_id[: show.SHORTEST_ID]
    return f"{who} ({found.addresses[0]})" if who else found.addresses[0]


def _membership(found: "GetStatusResponse", now: float) -> str:
    if not found.HasField("membership"):
        return "PLAINTEXT: nothing is encrypted, and nobody has to prove who they are"
    member = found.membership
    left, renews = member.certificate_expire_time.seconds - now, member.renew_time.seconds - now
    until = f"{_clock(member.certificate_expire_time.seconds)} (for {show.span(left)})"
    if left <= 0:
        until = f"{_clock(member.certificate_expire_time.seconds)}: EXPIRED"
    when = f"renews {_clock(member.renew_time.seconds)}" if renews > 0 else "renews as soon as central answers"
    return f"member of {member.network_id}, certificate good until {until}, {when}"


def _clock(seconds: float) -> str:
    when = show.moment(seconds)
    return f"{when:%Y-%m-%d %H:%M} UTC" if when else "-"


def _neighbours(found: "GetStatusResponse") -> Iterator[tuple[str, str]]:
    roles = [role for role in ("primary", "backup") if found.neighbours.HasField(role)]
    text = " · ".join(f"{role} {peer_line(getattr(found.neighbours, role))}" for role in roles)
    yield "neighbours", text or "none: this peer is alone, and asks central itself"
    if found.HasField("last_route"):
        yield "last route", route_line(found.last_route)


def _shares(found: "GetStatusResponse") -> str:
    hashing = f", {found.unhashed_count:,} more being read" if found.unhashed_count else ""
    return f"{found.shared_directory}: {show.count(found.file_count, 'file')}, {show.size(found.file_bytes)}{hashing}"


def _stores(found: "GetStatusResponse") -> str:
    copies = show.count(found.stored_count, "copy", "copies")
    return f"{copies} for others, {show.size(found.stored_bytes)} of {show.size(found.store_quota_bytes)}"


def _reached(found: "GetStatusResponse") -> str:
    from relevo.v1 import peer_control_pb2 as pb2  # noqa: PLC0415 - protobuf is slow to import

    if found.reachability == pb2.REACHABILITY_DIALABLE:
        text = "directly: a neighbour has dialled this peer"
    elif found.reachability == pb2.REACHABILITY_HIDDEN:
        relays = show.listed([relay.name for relay in found.relay.attached_to])
        text = f"nobody can dial this peer: it pushes, or is relayed by {relays or 'nobody yet'}"
    else:
        text = "not known: no neighbour has tried to dial this peer"
    if found.relay.attached_count or found.relay.relayed_bytes:
        peers = show.count(found.relay.attached_count, "peer")
        text += f"; relays for {peers}, {show.size(found.relay.relayed_bytes)} so far"
    return text


def _entrance(found: "GetStatusResponse") -> str:
    led = show.count(found.entrance.led_count, "connection")
    return f"{found.entrance.address}: {led} led to central, {found.entrance.refused_count:,} turned away"


def _traffic(found: "GetStatusResponse") -> str:
    from peer.commands import totals  # noqa: PLC0415 - protobuf is slow to import

    ways = totals.ways(found.received_bytes, found.received_reversed_bytes, found.received_relayed_bytes)
    return (
        f"sent {show.size(found.sent_bytes)}, received {show.size(found.received_bytes)}{f' ({ways})' if ways else ''}"
    )


def _limits(found: "GetStatusResponse") -> str:
    upload, download = found.rate_limits.upload_bytes_per_second, found.rate_limits.download_bytes_per_second
    at_once = show.count(found.max_downloads, "download")
    return f"upload {limiting.shown(upload)}, download {limiting.shown(download)}, {at_once} at once"


def _skipped(found: "GetStatusResponse") -> list[str]:
    if not found.skipped_count:
        return []
    rows = [(show.clip(skipped.path, _PATH_COLUMNS), skipped.reason) for skipped in found.skipped[:_SKIPPED_SHOWN]]
    more = found.skipped_count - len(rows)
    return [
        f"not shared {show.count(found.skipped_count, 'file')}:",
        *(f"  {line}" for line in show.table(("PATH", "REASON"), rows)[1:]),
        *([f"  and {more:,} more; `relevo status --json` lists up to 1,000"] if more else []),
    ]


@click.command()
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="List at most N.  [default: all]")
@json_option
@click.pass_obj
def transfers(home: Path, limit: int | None, as_json: bool) -> None:
    """List downloads, uploads and copies for others.

    The latest first; uploads and copies are those since the daemon started. `relevo pause`, `resume`, `cancel` and
    `priority` take the beginning of an ID.
    """
    with daemon_of(home) as daemon:
        found = list(daemon.transfers(limit))
    if as_json:
        document.write({"transfers": [document.fields_of(transfer) for transfer in found]})
    elif found:
        say(transfer_table(found, time.time()))
    else:
        click.echo("no transfer yet", err=True)


def transfer_table(found: Sequence["Transfer"], now: float) -> list[str]:
    """Returns the lines that list transfers; `now` is in seconds since 1970."""
    ids = show.short_ids(transfer.transfer_id for transfer in found)
    return show.table(
        ("ID", "KIND", "STATE", ">SIZE", ">DONE", ">RATE", ">LEFT", ">HOLDERS", ">BEGAN", "PATH"),
        (
            (
                ids[transfer.transfer_id],
                document.word(transfer, "kind"),
                _state(transfer),
                show.size(transfer.size_bytes),
                show.percent(transfer.done_bytes, transfer.size_bytes),
                show.rate(transfer.rate_bytes_per_second) if transfer.rate_bytes_per_second else "-",
                show.span(transfer.remaining_time.seconds) if transfer.HasField("remaining_time") else "-",
                sum(source.bytes > 0 for source in transfer.sources) or "-",
                show.age(transfer.start_time.seconds, now),
                ": ".join(filter(None, (_what(transfer), _why(transfer)))),
            )
            for transfer in found
        ),
    )


def _state(transfer: "Transfer") -> str:
    state = document.word(transfer, "state")
    level = document.word(transfer, "priority") if transfer.priority else "normal"
    return state if level == "normal" or transfer.HasField("end_time") else f"{state} ({level})"


def _what(transfer: "Transfer") -> str:
    if transfer.HasField("set"):
        return f"{transfer.path} ({transfer.set.done_count:,} of {show.count(transfer.set.found_count, 'file')})"
    # Copies for others have no path; the id is shortened as `relevo ls` does.
    return transfer.path or transfer.content_id.hex()[:8]


def _why(transfer: "Transfer") -> str:
    return transfer.error_message or transfer.waiting_reason


@click.command()
@click.pass_obj
def logout(home: Path) -> None:
    """Leave the network and stop the daemon.

    Others stop seeing its files at once; copies that other peers keep stay.
    """
    leave(home)


def leave(home: Path) -> None:
    """Logs out, waits until the daemon is gone, and says how it went."""
    with daemon_of(home) as daemon:
        confirmed = daemon.logout()
    from peer.commands.client import runs  # noqa: PLC0415 - gRPC is slow to import

    deadline = time.monotonic() + _PATIENCE
    while not (gone := not runs(home)) and time.monotonic() < deadline:
        time.sleep(0.05)
    how = "logged out" if confirmed else "central did not confirm: it drops this peer by itself within seconds"
    click.echo(f"{how}; {'the daemon has stopped' if gone else 'the daemon is still finishing'}")
