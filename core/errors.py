"""Every error that Relevo raises on purpose.

    RelevoError                 canonical code        exit  meaning
    ├── InvalidInput            INVALID_ARGUMENT      2     a value breaks a documented rule; `field` names it
    ├── NotFound                NOT_FOUND             3     there is no such thing
    │   └── SessionUnknown      NOT_FOUND             3     central does not know the session: log in anew
    ├── Unauthenticated         UNAUTHENTICATED       7     the signature is not the author's
    │   ├── ClockSkew           UNAUTHENTICATED       7     signed too long ago or in the future
    │   ├── CertificateExpired  UNAUTHENTICATED       7     the caller's certificate is not valid now: renew it
    │   └── NotEnrolled         UNAUTHENTICATED       7     the key is no member's: join with a token
    ├── Refused                 PERMISSION_DENIED     7     not for this caller
    │   ├── Revoked             PERMISSION_DENIED     7     the operator has revoked this peer
    │   ├── SessionMismatch     PERMISSION_DENIED     7     the session belongs to another peer
    │   └── SessionSuperseded   PERMISSION_DENIED     7     a newer login replaced the session
    ├── AlreadyExists           ALREADY_EXISTS        7     something else stands there
    ├── NotPossible             FAILED_PRECONDITION   7     the state of things forbids it
    ├── VersionConflict         ABORTED               5     built on another catalogue version: publish anew
    ├── Busy                    RESOURCE_EXHAUSTED    5     over a limit; `retry_after` seconds
    │   └── OverQuota           RESOURCE_EXHAUSTED    5     more than one peer may have: remove something first
    ├── Unreachable             UNAVAILABLE           5     nobody answers (or not in time)
    │   └── WrongIdentity       UNAVAILABLE           5     who answers there is not who was expected
    │       └── WrongTime       UNAVAILABLE           5     its certificate does not count by this machine's clock
    ├── Cancelled               CANCELLED             1     the user stopped it
    ├── Corrupt                 DATA_LOSS             1     bytes are not what they were said to be
    └── Defect                  INTERNAL              1     a bug, logged where it happened

The text of an error is the one sentence that a user reads: what happened and what to do. Two errors of one code are
told apart by `reason`, which travels as google.rpc.ErrorInfo; `core.status` maps both ways.
"""

from collections.abc import Mapping
from typing import ClassVar


class RelevoError(Exception):
    """Base of all; never raised itself.

    Attributes:
        code: name of the canonical gRPC status code.
        reason: upper-case word that tells errors of one code apart, or empty.
        exit_code: what the command line exits with.
        metadata: strings for programs, sent along; keys are lower_snake_case.
    """

    code: ClassVar[str] = "UNKNOWN"
    reason: ClassVar[str] = ""
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.metadata: dict[str, str] = dict(metadata or {})


class InvalidInput(RelevoError):
    """A value breaks a documented rule."""

    code = "INVALID_ARGUMENT"
    exit_code = 2

    def __init__(self, field: str, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{field}: {message}" if field else message, metadata)
        self.field = field


class NotFound(RelevoError):
    """There is no such thing."""

    code = "NOT_FOUND"
    exit_code = 3


class SessionUnknown(NotFound):
    """Central does not know the session, or it has expired: log in anew."""

    reason = "SESSION_UNKNOWN"


class Unauthenticated(RelevoError):
    """The signature is not the author's."""

    code = "UNAUTHENTICATED"
    exit_code = 7


class ClockSkew(Unauthenticated):
    """The request was signed too far from central's time; metadata `central_time` is seconds since 1970."""

    reason = "CLOCK_SKEW"


class CertificateExpired(Unauthenticated):
    """The caller's certificate is not valid at this time: it has to be renewed."""

    reason = "CERTIFICATE_EXPIRED"


class NotEnrolled(Unauthenticated):
    """The key is no member's: its holder has to join with a token."""

    reason = "NOT_ENROLLED"


class Refused(RelevoError):
    """Not for this caller."""

    code = "PERMISSION_DENIED"
    exit_code = 7


class Revoked(Refused):
    """The network's operator has revoked this peer."""

    reason = "REVOKED"

    def __init__(self, message: str = "", metadata: Mapping[str, str] | None = None) -> None:
        """Without a message it says what happened, and what its owner can do."""
        super().__init__(
            message
            or "the operator has revoked this peer; to come back, ask the operator for a token "
            "and run relevo --home NEW serve DIR --join TOKEN with a new home",
            metadata,
        )


class SessionMismatch(Refused):
    """The session belongs to another peer."""

    reason = "SESSION_MISMATCH"


class SessionSuperseded(Refused):
    """A newer login of the same peer replaced the session: whoever holds it stops."""

    reason = "SESSION_SUPERSEDED"


class AlreadyExists(RelevoError):
    """Something else stands there, and nothing is ever overwritten."""

    code = "ALREADY_EXISTS"
    exit_code = 7


class NotPossible(RelevoError):
    """The state of things forbids it; trying again changes nothing until that state does."""

    code = "FAILED_PRECONDITION"
    exit_code = 7


class VersionConflict(RelevoError):
    """A change builds on another version than central holds; metadata `version` is central's."""

    code = "ABORTED"
    reason = "CATALOGUE_VERSION"
    exit_code = 5


class Busy(RelevoError):
    """Over a limit for now; come back after `retry_after` seconds."""

    code = "RESOURCE_EXHAUSTED"
    exit_code = 5

    def __init__(self, message: str, retry_after: float = 0.0, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message, metadata)
        self.retry_after = retry_after


class OverQuota(Busy):
    """More than one peer may have: refused again until it removes something, or the operator raises the limit."""

    reason = "QUOTA"


class Unreachable(RelevoError):
    """Nobody answers, or not in time."""

    code = "UNAVAILABLE"
    exit_code = 5


class WrongIdentity(Unreachable):
    """Who answers there is not who was expected: another key, or another network's. Told by the own handshake only."""

    reason = "WRONG_IDENTITY"


class WrongTime(WrongIdentity):
    """Who answers there has a certificate that does not count by this machine's clock. Told by the own handshake."""

    reason = "WRONG_TIME"


class Cancelled(RelevoError):
    """The user stopped it."""

    code = "CANCELLED"


class Corrupt(RelevoError):
    """Bytes are not what they were said to be."""

    code = "DATA_LOSS"


class Defect(RelevoError):
    """A bug; its text stays in the log of the process where it happened."""

    code = "INTERNAL"
