"""Keys that are the same in every run, so that what was found breaks again tomorrow."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from core.identity import Identity

_KEY = ec.derive_private_key(7, ec.SECP256R1())
MALLORY = Identity(_KEY)
# Her private key, which is no secret.
KEY = _KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
# Stand in an input for what differs from run to run, at the same length: a live session, a fresh request id.
SESSION = "5e" * 16
REQUEST = "4e" * 16
