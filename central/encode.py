"""From what the use cases know to messages."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from central.copies.directives import DropCopy, StoreCopy
from central.network.enrolment import Membership
from central.sessions.membership import State, Terms
from central.sessions.roster import Roster
from central.store.store import FoundFile, FoundHolder, PeerRecord, PlacementRecord
from core.rpc import CENTRAL_MESSAGE
from core.times import to_duration, to_timestamp
from core.trust import Trust
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1 import content_pb2, enrolment_pb2

T = TypeVar("T")
M = TypeVar("M", bound=Message)
# Leaves room for the message around a page's items.
_PAGE_BYTES = CENTRAL_MESSAGE - 64 * 1024
_ITEM_BYTES = 8
# So many peer ids are a third of what an answer of Enrolment may hold.
_FEW_REVOKED = 400
_STATES = {
    State.LIVE: pb2.PEER_STATE_LIVE,
    State.SUSPECT: pb2.PEER_STATE_SUSPECT,
    State.REACHED: pb2.PEER_STATE_REACHED,
}


def fitting(items: Iterable[T], encode: Callable[[T], M]) -> list[M]:
    """Returns the messages of the first items, as many as fit into one answer; at least one when there is any.

    A thousand files with paths of 4,096 bytes would be larger than any message may be: such a page ends early.
    """
    messages: list[M] = []
    room = _PAGE_BYTES
    for item in items:
        message = encode(item)
        room -= message.ByteSize() + _ITEM_BYTES
        if room < 0 and messages:
            break
        messages.append(message)
    return messages


def peer_info(peer: PeerRecord | FoundHolder) -> content_pb2.PeerInfo:
    """Returns who a peer is and where it can be dialled."""
    return content_pb2.PeerInfo(peer_id=peer.peer_id, name=peer.name, addresses=peer.addresses)


def neighbours(pair: tuple[PeerRecord | None, PeerRecord | None]) -> content_pb2.Neighbours:
    """Returns primary and backup, unset where there is none."""
    primary, backup = pair
    return content_pb2.Neighbours(
        primary=peer_info(primary) if primary else None, backup=peer_info(backup) if backup else None
    )


def lease_terms(terms: Terms) -> content_pb2.LeaseTerms:
    """Returns when a peer has to beat."""
    return content_pb2.LeaseTerms(
        beat_interval=to_duration(terms.beat_interval),
        lease=to_duration(terms.lease),
        grace=to_duration(terms.grace),
    )


def directive(found: StoreCopy | DropCopy) -> pb2.Directive:
    """Returns what a peer is told to do."""
    if isinstance(found, DropCopy):
        return pb2.Directive(drop=pb2.DropDirective(content_id=found.content_id))
    store = pb2.StoreDirective(placement_id=found.placement_id, content_id=found.content_id, size_bytes=found.size)
    return pb2.Directive(store=store)


def probe(suspect: PeerRecord, nonce: bytes, patience: float) -> pb2.Directive:
    """Returns what a peer is told that is to look for another."""
    told = pb2.ProbeDirective(suspect=peer_info(suspect), nonce=nonce, patience=to_duration(patience))
    return pb2.Directive(probe=told)


def peer_listing(peer: PeerRecord, live: PeerRecord, roster: Roster) -> pb2.PeerListing:
    """Returns a live peer as it is listed: what the store counts, and what memory knows better."""
    assignment = roster.neighbours.of(live.peer_id)
    carrier = roster.carrier_of(live.peer_id)
    return pb2.PeerListing(
        peer=peer_info(live),
        state=_STATES[roster.leases.state(live.session_id)],
        login_time=to_timestamp(live.login_time),
        file_count=peer.file_count,
        free_bytes=live.free_bytes,
        primary_peer_id=assignment.primary,
        backup_peer_id=assignment.backup,
        carried=carrier is not None,
        carrier_peer_id=carrier or "",
    )


def catalogue_file(found: FoundFile) -> content_pb2.CatalogueFile:
    """Returns a file as a search shows it."""
    return content_pb2.CatalogueFile(
        path=found.path,
        content_id=found.content_id,
        size_bytes=found.size,
        modify_time=to_timestamp(found.modify_time),
        executable=found.executable,
        holder_count=found.holder_count,
        publish_time=to_timestamp(found.publish_time),
        wanted_copies=found.wanted_copies,
        live_copies=found.live_copies,
    )


def holder(
    found: FoundHolder | PeerRecord, roster: Roster, *, doubted: bool, complete: bool = True
) -> content_pb2.Holder:
    """Returns a peer that holds every block of a content, as it says, or is fetching it; and how it is reached."""
    hidden = not found.addresses and found.peer_id in roster
    relays = roster.neighbours_of(found.peer_id) if hidden else ()
    return content_pb2.Holder(
        peer=peer_info(found),
        complete=complete,
        doubted=doubted,
        relays=[peer_info(relay) for relay in relays if relay is not None],
    )


def located_files(
    found: Sequence[Sequence[FoundHolder]], roster: Roster, doubted: Callable[[str], bool]
) -> pb2.LocateFilesResponse:
    """Returns the holders of many contents, each holder described once; of as many contents as fit into an answer."""
    answer = pb2.LocateFilesResponse()
    positions: dict[str, int] = {}
    room = _PAGE_BYTES
    for of_one in found:
        new = [each for each in of_one if each.peer_id not in positions]
        described = [holder(each, roster, doubted=doubted(each.peer_id)) for each in new]
        # A position takes at most two bytes: there are 4,000 holders at most.
        room -= sum(one.ByteSize() + _ITEM_BYTES for one in described) + _ITEM_BYTES + 2 * len(of_one)
        if room < 0 and answer.files:
            break
        for each, description in zip(new, described, strict=True):
            positions[each.peer_id] = len(answer.holders)
            answer.holders.append(description)
        answer.files.add(holders=[positions[each.peer_id] for each in of_one])
    return answer


def placement(record: PlacementRecord, roster: Roster) -> content_pb2.Placement:
    """Returns how far a placement is; copies on peers that are just leaving are left out."""
    copies = [
        content_pb2.PlacementCopy(peer=peer_info(peer), confirmed=copy.confirmed)
        for copy in record.copies
        if (peer := roster.get(copy.peer_id))
    ]
    confirmed = sum(copy.confirmed for copy in copies)
    kept = confirmed >= record.wanted
    return content_pb2.Placement(
        placement_id=record.placement_id,
        content_id=record.content_id,
        path=record.path,
        size_bytes=record.size,
        wanted_copies=record.wanted,
        live_copies=confirmed,
        copies=copies,
        state=content_pb2.PLACEMENT_STATE_KEPT if kept else content_pb2.PLACEMENT_STATE_PENDING,
    )


def heartbeat(
    peer: PeerRecord,
    sequence: int,
    roster: Roster,
    directives: Iterable[pb2.Directive],
    trust: Trust | None,
    *,
    enrolment_port: int,
) -> pb2.HeartbeatResponse:
    """Returns what a peer is told in answer to a beat, or unasked when `sequence` is 0; `trust` when it has to know."""
    return pb2.HeartbeatResponse(
        sequence=sequence,
        terms=lease_terms(roster.leases.current_terms()),
        catalogue_version=peer.catalogue_version,
        neighbours=neighbours(roster.neighbours_of(peer.peer_id)),
        directives=directives,
        trust=trust.to_message() if trust else None,
        enrolment_port=enrolment_port,
    )


def membership(membership: Membership) -> enrolment_pb2.Membership:
    """Returns what a member is given. Who is revoked it hears down its heartbeat, when the list is a long one."""
    trust = membership.trust
    if len(trust.revoked) > _FEW_REVOKED:
        trust = Trust(version=0, authorities=trust.authorities)
    return enrolment_pb2.Membership(
        network_id=membership.network_id,
        certificates=membership.certificates,
        trust=trust.to_message(),
        enrolment_port=membership.enrolment_port,
    )
