"""How many examples a property is tried with: a part of them by `make test`, all by `make properties`."""

import math
import os

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
PART = 0.3 if PROFILE == "default" else 1.0


def examples(count):
    """Returns how many of `count` examples are tried now."""
    return math.ceil(count * PART)
