import signal
from threading import Thread

import pytest

from peer.commands.interruption import held_back


def press():
    signal.raise_signal(signal.SIGINT)


def pressed_times(number, then):
    with held_back():
        for _ in range(number):
            press()
        then()


def test_ctrl_c_waits_until_what_is_done_has_ended():
    done = []
    with pytest.raises(KeyboardInterrupt):
        pressed_times(1, lambda: done.append(1))
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_pressed_again_it_does_not_wait():
    done = []
    with pytest.raises(KeyboardInterrupt):
        pressed_times(2, lambda: done.append(1))
    assert done == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def fail():
    raise LookupError


def test_ctrl_c_counts_also_when_what_is_done_fails():
    with pytest.raises(KeyboardInterrupt):
        pressed_times(1, fail)
    with pytest.raises(LookupError):
        pressed_times(0, fail)


def test_where_ctrl_c_is_ignored_it_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_back():
            press()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_a_thread_nothing_changes():
    seen = []

    def work():
        with held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
