"""Logins: one that is not answered is asked again as it was, so that it can come late and change nothing."""

import pytest

from core import errors
from core.identity import Identity
from core.signing import WINDOW_SECONDS
from peer.directory.central_time import CentralTime
from peer.directory.logins import Introduction, Logins
from relevo.v1 import central_directory_pb2 as pb2


class Stage:
    def __init__(self):
        self.now = 1000.0
        self.free = 7
        self.sent = []
        self.error = None
        time = CentralTime(lambda: self.now, lambda: 1e9 + self.now)
        introduction = Introduction("ana", lambda _: ("192.0.2.1:5",), lambda: self.free)
        self.logins = Logins(Identity.generate(), introduction, time, lambda: self.now)

    async def send(self, request):
        self.sent.append(request.signed.request_id)
        if self.error:
            error, self.error = self.error, None
            raise error
        return pb2.LoginResponse(session_id=f"{len(self.sent):032x}")

    async def log_in(self, error=None):
        self.error = error
        return (await self.logins.log_in(self.send, "central:1", "central:1"))[0]


@pytest.mark.parametrize("lost", [errors.Unreachable("lost"), errors.Defect("?"), errors.Cancelled("?")])
async def test_a_login_without_an_answer_is_asked_again_as_it_was(lost):
    stage = Stage()
    with pytest.raises(type(lost)):
        await stage.log_in(lost)
    assert stage.logins.unanswered
    await stage.log_in()
    assert stage.sent[0] == stage.sent[1]
    assert not stage.logins.unanswered
    await stage.log_in()
    assert len(set(stage.sent)) == 2, "an answered one is over"


async def test_what_has_changed_meanwhile_is_told_by_another_login_after_it():
    stage = Stage()
    with pytest.raises(errors.Unreachable):
        await stage.log_in(errors.Unreachable("lost"))
    stage.free = 8
    login = await stage.log_in()
    assert stage.sent[0] == stage.sent[1] != stage.sent[2]
    assert login.session_id == f"{3:032x}"


@pytest.mark.parametrize("no", [errors.NotPossible("too old"), errors.Busy("later", 1.0), errors.Revoked()])
async def test_a_refusal_is_an_answer(no):
    stage = Stage()
    with pytest.raises(type(no)):
        await stage.log_in(no)
    assert not stage.logins.unanswered
    await stage.log_in()
    assert stage.sent[0] != stage.sent[1]


async def test_a_login_that_central_would_not_take_any_more_is_not_asked_again():
    stage = Stage()
    with pytest.raises(errors.Unreachable):
        await stage.log_in(errors.Unreachable("lost"))
    stage.now += WINDOW_SECONDS
    assert not stage.logins.unanswered
    await stage.log_in()
    assert stage.sent[0] != stage.sent[1]
