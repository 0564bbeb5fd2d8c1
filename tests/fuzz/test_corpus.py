"""The fixed corpus: what was found once, and valid inputs, go through every target at every run of the tests."""

import pytest

from tests.fuzz.engine import corpus
from tests.fuzz.messages import services
from tests.fuzz.network import ELSEWHERE, SERVED_BY
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", sorted(TARGETS))
async def test_nothing_in_the_corpus_breaks_anything(name):
    async with TARGETS[name]() as target:
        for data in target.seeds():
            await target.run(data)
        for path in corpus(target):
            try:
                await target.run(path.read_bytes())
            except Exception as error:
                error.add_note(f"with {path}")
                raise
        await target.check()


def test_every_service_is_fuzzed():
    assert set(services()) == {*SERVED_BY, *ELSEWHERE}
