"""Times between protobuf's messages and plain numbers: seconds since 1970, and spans in seconds."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

_NANOSECONDS = 1_000_000_000


def to_timestamp(seconds: float) -> Timestamp:
    """Returns a Timestamp for seconds since 1970, to the microsecond."""
    micros = round(seconds * 1_000_000)
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def from_timestamp(stamp: Timestamp) -> float:
    """Returns seconds since 1970."""
    return stamp.seconds + stamp.nanos / _NANOSECONDS


def to_duration(seconds: float) -> Duration:
    """Returns a Duration for a span in seconds, to the microsecond."""
    span = Duration()
    span.FromMicroseconds(round(seconds * 1_000_000))
    return span


def from_duration(span: Duration) -> float:
    """Returns a span in seconds."""
    return span.seconds + span.nanos / _NANOSECONDS
