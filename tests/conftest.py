"""Settings for all tests: hypothesis draws the same examples at every run, and a loaded machine is no failure."""

import signal

from hypothesis import HealthCheck, settings

import core  # noqa: F401 - before gRPC, which reads its environment once
from tests.examples import PROFILE, examples

SLOW = (HealthCheck.too_slow,)
for name in ("default", "full"):  # `make test` tries a part of the examples, `make properties` all of them
    settings.register_profile(
        name, deadline=None, derandomize=True, max_examples=examples(100), suppress_health_check=SLOW
    )
# For hunting: draws anew at every run, and more.
settings.register_profile("hunt", deadline=None, max_examples=2000, suppress_health_check=SLOW)
settings.load_profile(PROFILE)

# A shell starts what runs in the background with Ctrl-C ignored, and children inherit that, those of tests too.
signal.signal(signal.SIGINT, signal.default_int_handler)
