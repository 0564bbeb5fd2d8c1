"""System calls by ctypes: what they do where they are, and what they answer where they are not."""

import errno
import os
import sys

import pytest

from peer.disk import kernel


@pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux")
def test_writing_is_started_and_an_error_has_its_number(tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, bytes(1 << 20))
    assert kernel.start_writing(descriptor) == 0
    os.close(descriptor)
    assert kernel.start_writing(descriptor) == errno.EBADF


def test_a_call_that_is_missing_is_no_error_of_the_program(monkeypatch):
    monkeypatch.setattr(kernel, "_function", lambda _: None)
    assert kernel.start_writing(0) == errno.ENOSYS
