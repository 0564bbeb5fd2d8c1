"""What a failed call to central means, in words that say where it was and what to look at."""

import grpc

from core import errors
from core.status import from_rpc_error


def central_error(failure: grpc.RpcError, address: str) -> errors.RelevoError:
    """Returns the error that a failed call to the central at `address` stands for."""
    error = from_rpc_error(failure)
    if isinstance(error, errors.WrongTime):
        return errors.WrongTime(f"central at {address} is not believed: {error}")
    if isinstance(error, errors.WrongIdentity):
        return errors.WrongIdentity(
            f"whoever answers at {address} is not central of this network "
            "(another program or network is there, or the network's authority has changed many times meanwhile: "
            "then join again with a token)"
        )
    if isinstance(error, errors.Unreachable):
        return errors.Unreachable(f"central at {address} does not answer")
    return error
