"""Encryption at rest: signing secrets and custom header values, under a master key from the settings."""

import base64
import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"\x01"
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12  # NIST SP 800-38D §8.2.2: random, 96 bits


class CannotUnseal(Exception):
    """The value was sealed under a master key that we do not have, or was tampered with or moved."""


class Sealer:
    """AES-256-GCM under the first of the master keys; opens what any of them sealed.

    To change the master key, put the new one first and keep the old one behind it. A sealed value is
    version (1 byte) · key id (4) · nonce (12) · ciphertext and tag; it is bound to its place by `context`,
    so that it cannot be copied into another row.
    """

    def __init__(self, master_keys: Sequence[bytes]) -> None:
        if not master_keys:
            raise ValueError("at least one master key is needed")
        self._ciphers = {_key_id(key): AESGCM(key) for key in master_keys}
        self._current = _key_id(master_keys[0])

    def seal(self, plain: bytes, context: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + self._current + nonce + self._ciphers[self._current].encrypt(nonce, plain, context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """Raises CannotUnseal."""
        body = 1 + _KEY_ID_BYTES
        cipher = self._ciphers.get(sealed[1:body]) if sealed[:1] == _VERSION else None
        if cipher is None:
            raise CannotUnseal("sealed under a master key that is not among the settings")
        try:
            return cipher.decrypt(sealed[body : body + _NONCE_BYTES], sealed[body + _NONCE_BYTES :], context)
        except (InvalidTag, ValueError) as error:  # ValueError: too short to hold a nonce
            raise CannotUnseal("the sealed value was changed or belongs to another row") from error


def new_master_key() -> str:
    """A fresh master key, as it stands in the settings: the base64 of 32 random bytes."""
    return base64.b64encode(os.urandom(32)).decode()


def read_master_key(text: str) -> bytes:
    """The 32 bytes. Raises ValueError with what is wrong, never with the key."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError as error:
        raise ValueError("a master key is the base64 of 32 bytes; this is not base64") from error
    if len(key) != 32:
        raise ValueError(f"a master key is the base64 of 32 bytes; this one has {len(key)}")
    return key


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"hookline key id" + key).digest()[:_KEY_ID_BYTES]
