"""The vocabulary that both programs speak.

gRPC has no option for the version of TLS. Offering for 1.2 only a suite that the ECDSA keys here cannot use leaves 1.3.
The C core reads this once, when grpc is imported: so it is set here, and both programs import this package first.
"""

import os
import sys

_SUITES = "ECDHE-RSA-AES128-GCM-SHA256"
# Whether it was set in time; without that `core.tls` makes no credentials.
TLS_1_3_ONLY = "grpc" not in sys.modules or os.environ.get("GRPC_SSL_CIPHER_SUITES") == _SUITES
os.environ["GRPC_SSL_CIPHER_SUITES"] = _SUITES
