"""How long to wait before trying central again."""

import random

from core import errors

FIRST_BACKOFF = 0.5
LAST_BACKOFF = 5.0
# A refusal that trying again will hardly mend is tried again this slowly.
REFUSED_BACKOFF = 30.0
# A peer that is no member any more asks ever more slowly, down to this.
LAST_REFUSED_BACKOFF = 300.0
# So often another than central may answer before it is tried as slowly: addresses change hands while machines restart.
PATIENT_FAILURES = 5


def login_pause(error: errors.RelevoError, failures: int) -> float:
    """Returns how long to wait before the next login after `failures` in a row, in seconds."""
    if isinstance(error, errors.Busy):
        return error.retry_after + jittered(failures)
    if isinstance(error, errors.Revoked | errors.NotEnrolled):
        return min(LAST_REFUSED_BACKOFF, REFUSED_BACKOFF * 2.0 ** min(max(failures - 1, 0), 10))
    if isinstance(error, errors.WrongTime):  # it is as it should be as soon as a clock is set
        return jittered(failures)
    if isinstance(error, errors.WrongIdentity) and failures > PATIENT_FAILURES:
        return REFUSED_BACKOFF
    if isinstance(error, errors.Unreachable | errors.Defect | errors.Cancelled | errors.SessionUnknown):
        return jittered(failures)
    return REFUSED_BACKOFF


def jittered(failures: int) -> float:
    """Returns an exponential pause with full jitter, so that a herd of peers spreads; 0.25 to 5 s."""
    return random.uniform(FIRST_BACKOFF / 2, min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(failures, 10)))  # noqa: S311
