import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from core.times import from_duration, from_timestamp, spoken, to_duration, to_timestamp


@given(st.floats(-60_000_000_000, 250_000_000_000))
def test_a_time_survives_the_message(seconds):
    assert from_timestamp(to_timestamp(seconds)) == pytest.approx(seconds, abs=1e-4)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_any_timestamp_that_a_peer_can_send_can_be_written_again(seconds, nanos):
    found = from_timestamp(Timestamp(seconds=seconds, nanos=nanos))
    again = to_timestamp(found)
    assert again.ToJsonString()
    assert from_timestamp(again) == pytest.approx(found, abs=1e-4)


def test_times_beyond_the_calendar_become_its_ends():
    assert to_timestamp(1e300).ToJsonString() == "9999-12-31T23:59:59Z"
    assert to_timestamp(-1e300).ToJsonString() == "0001-01-01T00:00:00Z"


@given(st.floats(0, 1e9))
def test_a_span_survives_the_message(seconds):
    assert from_duration(to_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (86_400, "24 h"),
        (5_400, "1.5 h"),
        (3_600, "1 h"),
        (1_200, "20 min"),
        (59.96, "60 s"),
        (2.5, "2.5 s"),
        (0, "0 s"),
    ],
)
def test_spans_are_spoken_in_their_largest_unit(seconds, text):
    assert spoken(seconds) == text
