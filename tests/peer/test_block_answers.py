"""The answer that carries a block is what protobuf would make of it, and whatever comes is read as protobuf does."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from peer.fetching.block_answers import BlockAnswer, decoded, encoded
from relevo.v1.peer_relay_pb2 import GetBlockResponse

INDEXES = st.integers(0, 2**32 - 1)
DATA = st.binary(max_size=300)


@given(INDEXES, DATA)
def test_what_is_encoded_is_the_message(index, data):
    message = GetBlockResponse.FromString(encoded(GetBlockResponse(index=index), data))
    assert message == GetBlockResponse(index=index, data=data)


@given(INDEXES, DATA)
def test_what_is_encoded_is_decoded(index, data):
    answer = decoded(encoded(GetBlockResponse(index=index), memoryview(data)))
    assert (answer.index, bytes(answer.data)) == (index, data)


def test_a_block_is_not_copied_out_of_the_answer():
    raw = encoded(GetBlockResponse(index=7), bytes(1 << 20))
    answer = decoded(raw)
    assert isinstance(answer.data, memoryview)
    assert answer.data.obj is raw


FIELDS = st.lists(
    st.one_of(
        INDEXES.map(lambda index: GetBlockResponse(index=index).SerializeToString()),
        DATA.map(lambda data: GetBlockResponse(data=data).SerializeToString()),
        st.binary(max_size=100).map(lambda data: b"\x7a" + bytes((len(data),)) + data),  # field 15
        st.just(b"\x79" + bytes(8)),  # field 15 again, of eight bytes
        st.just(b"\xf8\xff\xff\xff\x0f\x01"),  # the highest field number
    ),
    max_size=5,
).map(b"".join)


@given(
    st.one_of(
        FIELDS,
        st.binary(max_size=60),
        st.builds(lambda raw, end: raw[: max(0, len(raw) - end)], FIELDS, st.integers(1, 9)),
    )
)
def test_whatever_comes_is_read_as_protobuf_reads_it(raw):
    try:
        message = GetBlockResponse.FromString(raw)
    except DecodeError:
        with pytest.raises(DecodeError):
            decoded(raw)
    else:
        answer = decoded(raw)
        assert BlockAnswer(answer.index, bytes(answer.data)) == BlockAnswer(message.index, message.data)
