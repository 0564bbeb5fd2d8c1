"""What can be set about central, with its defaults."""

from dataclasses import dataclass, field

from central.quotas import Quotas
from central.sessions.neighbours import DEFAULT_CAP
from central.store.store import LONGEST_SEARCH
from core.limits import Limits

DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times in seconds, and limits.

    Attributes:
        beat_interval: shortest time between two beats of a peer; its lease is 3.5 times as long.
        grace: what a broken stream leaves for opening another.
        probe: how long other peers may take to reach one that central hears nothing of.
        sweep_interval: from one search for expired leases to the next.
        max_beats: beats a second that central takes from all peers together; with more peers each beats more rarely.
        replace_after: how long a copy is waited for whose peer has left, before another peer is chosen.
        relay_cap: most peers that one relay serves while another has room.
        longest_search: how long a search of the catalogue may take; it is given up then.
        forget_after: how long central remembers what a peer that is gone had published; copies that it stores for
            others are remembered longer.
        drain: how long running calls may take to end when central stops.
        quotas: how much each peer may have.
        limits: what each of central's servers takes from the network at once.
        certificate_life: how long certificates count; they are renewed when two thirds of it are over.
        enrolment_rate: requests a second that one host may make to join or to renew, after ten seconds' worth at once.
        enrolment_total_rate: the same for all hosts together.
    """

    beat_interval: float = 2.0
    grace: float = 2.5
    probe: float = 2.0
    sweep_interval: float = 0.5
    max_beats: float = 500.0
    replace_after: float = 30.0
    relay_cap: int = DEFAULT_CAP
    longest_search: float = LONGEST_SEARCH
    forget_after: float = 7 * DAY
    drain: float = 5.0
    quotas: Quotas = field(default_factory=Quotas)
    limits: Limits = field(default_factory=Limits)
    certificate_life: float = DAY
    enrolment_rate: float = 10.0
    enrolment_total_rate: float = 100.0
