"""Times between protobuf's messages and plain numbers: seconds since 1970, and spans in seconds."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

_NANOSECONDS = 1_000_000_000
_UNITS = ((3600, "h"), (60, "min"))
# What a Timestamp may say: the years 1 to 9999. Others fit into the message, and break whoever writes them again.
_EARLIEST = -62_135_596_800.0
_LATEST = 253_402_300_799.0


def to_timestamp(seconds: float) -> Timestamp:
    """Returns a Timestamp for seconds since 1970, to the microsecond; beyond the years 1 to 9999, their nearest end."""
    micros = round(min(max(seconds, _EARLIEST), _LATEST) * 1_000_000)
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def from_timestamp(stamp: Timestamp) -> float:
    """Returns seconds since 1970; beyond the years 1 to 9999, their nearest end."""
    return min(max(stamp.seconds + stamp.nanos / _NANOSECONDS, _EARLIEST), _LATEST)


def to_duration(seconds: float) -> Duration:
    """Returns a Duration for a span in seconds, to the microsecond."""
    span = Duration()
    span.FromMicroseconds(round(seconds * 1_000_000))
    return span


def spoken(seconds: float) -> str:
    """Returns a span as people say it, with its largest unit that fits: `24 h`, `1.5 h`, `20 min`, `3 s`."""
    unit, name = next(((unit, name) for unit, name in _UNITS if seconds >= unit), (1, "s"))
    return f"{round(seconds / unit, 1):g} {name}"


def from_duration(span: Duration) -> float:
    """Returns a span in seconds."""
    return span.seconds + span.nanos / _NANOSECONDS
