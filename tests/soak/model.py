"""What central must answer, as simply as it can be said: who is there, what they publish, what is promised of it.

A peer that has fallen silent may be given up from `may_end` on and must be from `must_end` on; in between central
decides, and the model takes that up.
"""

from dataclasses import dataclass, field

LEASE = 7.0
GRACE = 2.5
# Central may hold an expiry back, to ask others or because too many fall silent at once; not for longer than this.
LONGEST_DOUBT = 90.0


def size_of(content):
    """Every content has one size, as in life."""
    return 10 + content[0]


@dataclass
class Member:
    """One peer: its session, and what central holds of its library, which is visible while the session is live."""

    session: str = ""
    live: bool = False
    shown: float = 0.0  # when it last showed that it lives
    may_end: float = 0.0
    version: int = 0
    entries: dict = field(default_factory=dict)  # path to content
    stored: set = field(default_factory=set)

    def shows(self, now):
        self.shown, self.may_end = now, now + LEASE

    def falls_silent(self, now):
        """Its stream breaks."""
        self.may_end = min(self.may_end, now + GRACE)

    @property
    def must_end(self):
        return self.shown + LEASE + LONGEST_DOUBT

    def logs_in(self, session, now):
        self.session, self.live = session, True
        self.shows(now)


@dataclass
class Promise:
    """A placement."""

    placement_id: str
    path: str
    wanted: int


class Model:
    """All members by peer id, and all placements by author and content."""

    def __init__(self, peer_ids):
        self.members = {peer_id: Member() for peer_id in peer_ids}
        self.promises = {}
        self.ended = []  # ids of placements

    def live(self):
        return {peer_id: member for peer_id, member in self.members.items() if member.live}

    def applies(self, peer_id, base, version, *, added=(), removed=(), stored=(), dropped=()):
        """A batch was acknowledged."""
        member = self.members[peer_id]
        if base == 0:
            member.entries, member.stored = {}, set()
        for path in removed:
            if path not in dict(added):
                member.entries.pop(path, None)
        member.entries.update(added)
        member.stored = (member.stored - set(dropped)) | set(stored)
        member.version = version

    def goes_on(self, author, added, found):
        """Takes up what `author` is promised after a batch: a promise goes on to other bytes at its path.

        Which of several versions wait until then is central's affair.
        """
        for (owner, content), promise in list(self.promises.items()):
            if owner != author:
                continue
            del self.promises[owner, content]
            if added.get(promise.path, content) == content:
                assert found[content].placement_id == promise.placement_id
                assert found[content].wanted >= promise.wanted
            else:
                assert any(found[new].wanted >= promise.wanted for new in added.values() if new in found)
        self.promises |= {(author, content): promise for content, promise in found.items()}

    def storing(self, content):
        return {peer_id for peer_id, member in self.live().items() if content in member.stored}

    def holders(self, content):
        publishing = {peer_id for peer_id, member in self.live().items() if content in member.entries.values()}
        return publishing | self.storing(content)

    def files(self):
        """Returns what a list shows: (path, content, size)."""
        published = {item for member in self.live().values() for item in member.entries.items()}
        kept = {(promise.path, placed) for (_, placed), promise in self.promises.items() if self.storing(placed)}
        return {(path, content, size_of(content)) for path, content in published | kept}

    def names(self, content):
        """Tells whether anything visible says how large a content is."""
        return any(content == listed for _, listed, _ in self.files())
