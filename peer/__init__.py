import core  # noqa: F401 - before gRPC, which reads its environment once
