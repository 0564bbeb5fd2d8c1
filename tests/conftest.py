"""Settings for all tests: hypothesis draws the same examples at every run, and a loaded machine is no failure."""

import os
import signal

from hypothesis import HealthCheck, settings

import core  # noqa: F401 - before gRPC, which reads its environment once

settings.register_profile("default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
# For hunting: draws anew at every run, and more.
settings.register_profile("hunt", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# A shell starts what runs in the background with Ctrl-C ignored, and children inherit that, those of tests too.
signal.signal(signal.SIGINT, signal.default_int_handler)
