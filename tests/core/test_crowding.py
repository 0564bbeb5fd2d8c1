"""Whose connections are closed when they run out."""

import os
import socket
from collections import Counter
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.addresses import network_of
from core.crowding import Crowd, too_many

HOSTS = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "[2001:db8::1]", "[2001:db8::2]", "[2001:db8:1::1]"]
CONNECTIONS = st.lists(st.tuples(st.sampled_from(HOSTS), st.integers(1, 65_535)), unique=True, max_size=60).map(
    lambda found: [f"{host}:{port}" for host, port in found]
)


@given(CONNECTIONS, st.integers(0, 60))
def test_as_many_are_closed_as_are_too_many(connections, most):
    closing = too_many(connections, most)
    assert len(closing) == len(set(closing)) == max(0, len(connections) - most)
    assert set(closing) <= set(connections)


@given(CONNECTIONS, st.integers(0, 60))
def test_who_loses_some_has_as_many_left_as_anybody(connections, most):
    closing = too_many(connections, most)
    left = Counter({network_of(each): 0 for each in connections})
    left.update(network_of(each) for each in connections if each not in closing)
    for loser in {network_of(each) for each in closing}:
        assert left[loser] >= max(left.values()) - 1


@given(CONNECTIONS, st.integers(0, 60))
def test_of_one_host_the_newest_are_closed(connections, most):
    closing = set(too_many(connections, most))
    for host in {network_of(each) for each in connections}:
        fates = [each in closing for each in connections if network_of(each) == host]
        assert fates == sorted(fates)


def test_an_ipv6_network_counts_as_one_host():
    connections = ["192.0.2.1:1", "[2001:db8::1]:1", "[2001:db8::2]:1", "[::ffff:192.0.2.1]:2", "[2001:db8::3]:1"]
    assert too_many(connections, 4) == ["[2001:db8::3]:1"]


@pytest.fixture
def connected():
    """Returns a function that connects once more to a server, and gives both ends."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=100)) as server:
        ends = []

        def connect(host="127.0.0.1"):
            client = socket.create_connection(server.getsockname(), source_address=(host, 0))
            ends.extend((client, server.accept()[0]))
            client.settimeout(0.2)
            return client

        connect.port = server.getsockname()[1]
        yield connect
        for end in ends:
            end.close()


def is_open(client):
    try:
        return client.recv(1) != b""
    except TimeoutError:
        return True


def test_connections_are_shut_for_both_ends_and_those_to_other_ports_are_not(connected):
    crowd = Crowd(connected.port, 8)
    few = [connected(), connected()]
    crowd.thin()
    many = [connected("127.0.0.2") for _ in range(6)]
    crowd.thin()
    crowd.thin()
    assert all(is_open(client) for client in few)
    assert [is_open(client) for client in many] == [True] * 5 + [False]


def test_the_newest_are_those_that_came_last_whatever_their_descriptors(connected):
    """The system gives the lowest number that is free."""
    spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    crowd = Crowd(connected.port, 8)
    old = [connected() for _ in range(7)]
    crowd.thin()
    for descriptor in spare:
        os.close(descriptor)
    new = [connected() for _ in range(2)]
    crowd.thin()
    assert [is_open(client) for client in old + new] == [True] * 7 + [False] * 2


def test_while_there_is_room_nobody_is_counted(connected):
    crowd = Crowd(connected.port, 1_000_000)
    many = [connected() for _ in range(10)]
    crowd.thin()
    assert all(is_open(client) for client in many)
    assert not crowd._since
