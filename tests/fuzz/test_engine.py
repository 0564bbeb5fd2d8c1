"""The engine finds what was planted, and draws the same inputs again for the same seed."""

from contextlib import suppress
from random import Random

import pytest

from core.errors import InvalidInput
from core.names import check_path
from relevo.v1.central_directory_pb2 import ListFilesRequest
from tests.fuzz import engine
from tests.fuzz.engine import Broken, Target, fuzz
from tests.fuzz.messages import spoil
from tests.fuzz.mutations import mutated


@pytest.fixture(autouse=True)
def own_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "CORPUS", tmp_path)


class Planted(Target):
    """Breaks on a length that is told larger than what follows: one byte of a valid input has to change."""

    name = "planted"

    def __init__(self):
        self.seen = []

    def seeds(self):
        return [b"\x03abc"]

    async def run(self, data):
        self.seen.append(data)
        if data and data[0] > 0x70 and data[1:4] == b"abc":
            raise IndexError("a planted defect")


class Slow(Planted):
    """Breaks something that only a later look notices."""

    name = "slow"

    async def run(self, data):
        self.seen.append(data)

    async def check(self):
        raise Broken("something is gone")


async def test_a_planted_defect_is_found_within_seconds_and_once():
    report = await fuzz(Planted(), seconds=20, seed=1, most=20_000)
    (finding,) = report.findings.values()
    assert finding.data[0] > 0x70
    assert "a planted defect" in finding.story
    assert report.executions >= 1000


async def test_a_finding_is_written_into_the_corpus_and_read_from_there_by_the_next_run(tmp_path):
    report = await fuzz(Planted(), seconds=20, seed=1, most=20_000)
    (finding,) = report.findings.values()
    path = finding.save(tmp_path / "planted")
    assert path.name.startswith("found-")
    again = await fuzz(Planted(), seconds=20, seed=2, most=2)
    assert [found.data for found in again.findings.values()] == [finding.data]


async def test_what_only_a_later_look_notices_is_found():
    report = await fuzz(Slow(), seconds=20, seed=1, most=10)
    assert "something is gone" in next(iter(report.findings.values())).story


async def test_the_same_seed_draws_the_same_inputs_and_another_one_others():
    runs = []
    for seed in (5, 5, 6):
        target = Planted()
        await fuzz(target, seconds=20, seed=seed, most=200)
        runs.append(target.seen)
    assert runs[0] == runs[1] != runs[2]


async def test_inputs_that_reach_new_lines_of_the_project_are_kept():
    class Guided(Planted):
        async def run(self, data):
            with suppress(InvalidInput):
                check_path(data.decode("utf-8", "replace"))

    report = await fuzz(Guided(), seconds=20, seed=1, most=2000)
    assert not report.findings
    assert report.corpus > 3
    assert report.lines > 10


def test_mutations_never_fail_and_stay_within_bounds():
    random = Random(1)
    data = b""
    for _ in range(5000):
        data = mutated(data, b"other" * 50, random)
        assert len(data) <= 1 << 16


def test_a_spoiled_message_is_still_a_message():
    random = Random(1)
    for _ in range(2000):
        request = ListFilesRequest(query="x", page_size=3)
        spoil(request, random)
        assert ListFilesRequest.FromString(request.SerializeToString()) == request
