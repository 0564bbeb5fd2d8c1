import socket
from contextlib import ExitStack

import pytest

from core import connections
from core.connections import NOT_SENT, SLOW_NOT_SENT, Connections, congestion_control

TCP_NOTSENT_LOWAT = 25


class Server:
    """A listener of this process, and what came in on it."""

    def __init__(self, stack, own=None):
        self.stack = stack
        self.listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        if own:
            self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, own)
        self.port = self.listener.getsockname()[1]

    def connected(self):
        """Returns our end of a new connection, and what gRPC would call its peer."""
        self.stack.enter_context(socket.create_connection(self.listener.getsockname()))
        ours, (host, port) = self.listener.accept()
        return self.stack.enter_context(ours), f"ipv4:{host}:{port}"


@pytest.fixture
def stack():
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def bbr(stack):
    """A server where the system's congestion control is BBR."""
    try:
        server = Server(stack, b"bbr")
    except OSError:
        pytest.skip("this kernel has no BBR, or keeps it for root")
    return server


def not_sent(connection):
    return connection.getsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT)


def test_whoever_comes_in_queues_a_part_of_a_block_and_a_slow_one_less(stack):
    server = Server(stack)
    known = Connections()
    known.listening(server.port)
    slow, slow_peer = server.connected()
    fast, fast_peer = server.connected()
    known.note(slow_peer, 0.2, alone=False)
    known.note(fast_peer, 0.05, alone=False)
    assert (not_sent(slow), not_sent(fast)) == (SLOW_NOT_SENT, NOT_SENT)


def test_whoever_comes_in_yields_to_losses_where_the_system_would_not(bbr):
    known = Connections()
    known.listening(bbr.port)
    ours, _ = bbr.connected()
    assert congestion_control(ours) in {b"cubic", b"reno"}


def test_a_connection_has_the_systems_own_control_while_nobody_else_is_sent_blocks(bbr):
    known = Connections()
    known.listening(bbr.port)
    ours, peer = bbr.connected()
    yielding = congestion_control(ours)
    for _ in range(connections.ALONE - 1):
        known.note(peer, 0.01, alone=True)
    assert congestion_control(ours) == yielding
    known.note(peer, 0.01, alone=True)
    assert congestion_control(ours) == b"bbr"
    known.note(peer, 0.01, alone=False)
    assert congestion_control(ours) == yielding


def test_where_the_system_yields_by_itself_nothing_is_changed(stack):
    server = Server(stack, b"reno")
    known = Connections()
    known.listening(server.port)
    ours, peer = server.connected()
    assert congestion_control(ours) == b"reno"
    for alone in (*[True] * connections.ALONE, False):
        known.note(peer, 0.01, alone=alone)
        assert congestion_control(ours) == b"reno"


@pytest.mark.parametrize("peer", ["unix:/tmp/x", "ipv4:127.0.0.1:1", "ipv6:%5B::1%5D:1", ""])
def test_a_peer_that_is_not_connected_changes_nothing(stack, peer):
    ours, _ = Server(stack).connected()
    before = not_sent(ours)
    Connections().note(peer, 1.0, alone=False)
    assert not_sent(ours) == before
