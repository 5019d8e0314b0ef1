"""Encryption at rest."""

import base64
import os

import pytest

from models.sealing import CannotUnseal, Sealer, new_master_key, read_master_key

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
SECRET = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PLACE = b"whk_01h455vb4pex5vsknk084sn02q:secret"


def test_what_is_sealed_is_unsealed_in_its_place() -> None:
    sealed = Sealer([OLD]).seal(SECRET, PLACE)
    assert Sealer([OLD]).unseal(sealed, PLACE) == SECRET
    assert SECRET not in sealed
    assert len(sealed) == 1 + 4 + 12 + len(SECRET) + 16  # version, key id, nonce, ciphertext, tag


def test_sealing_twice_never_gives_the_same() -> None:
    sealer = Sealer([OLD])
    assert len({sealer.seal(SECRET, PLACE) for _ in range(100)}) == 100


def test_an_empty_value_can_be_sealed() -> None:
    assert Sealer([OLD]).unseal(Sealer([OLD]).seal(b"", PLACE), PLACE) == b""


def test_a_value_moved_to_another_row_is_refused() -> None:
    sealed = Sealer([OLD]).seal(SECRET, PLACE)
    with pytest.raises(CannotUnseal, match="belongs to another row"):
        Sealer([OLD]).unseal(sealed, b"whk_01h455vb4pex5vsknk084sn02r:secret")


def test_a_change_of_any_byte_is_noticed() -> None:
    sealer = Sealer([OLD])
    sealed = sealer.seal(SECRET, PLACE)
    for i in range(len(sealed)):
        changed = sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :]
        with pytest.raises(CannotUnseal):
            sealer.unseal(changed, PLACE)


def test_a_value_cut_short_anywhere_is_refused() -> None:
    sealer = Sealer([OLD])
    sealed = sealer.seal(SECRET, PLACE)
    for length in range(len(sealed)):
        with pytest.raises(CannotUnseal):
            sealer.unseal(sealed[:length], PLACE)


def test_another_master_key_cannot_unseal() -> None:
    with pytest.raises(CannotUnseal, match="not among the settings"):
        Sealer([NEW]).unseal(Sealer([OLD]).seal(SECRET, PLACE), PLACE)


def test_a_changed_master_key_seals_anew_and_opens_what_the_old_one_sealed() -> None:
    both = Sealer([NEW, OLD])
    assert both.unseal(Sealer([OLD]).seal(SECRET, PLACE), PLACE) == SECRET
    assert Sealer([NEW]).unseal(both.seal(SECRET, PLACE), PLACE) == SECRET


def test_a_sealer_wants_a_key() -> None:
    with pytest.raises(ValueError, match="at least one master key"):
        Sealer([])


def test_a_new_master_key_is_the_base64_of_32_random_bytes() -> None:
    assert len(read_master_key(new_master_key())) == 32
    assert new_master_key() != new_master_key()
    assert read_master_key(f" {base64.b64encode(OLD).decode()}\n") == OLD


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        (base64.b64encode(os.urandom(31)).decode(), "this one has 31"),
        (base64.b64encode(os.urandom(33)).decode(), "this one has 33"),
        ("", "this one has 0"),
        ("not base64!", "not base64"),
        ("schlüssel", "not base64"),
    ],
)
def test_a_bad_master_key_is_refused_without_being_repeated(key: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refused:
        read_master_key(key)
    assert not key or key not in str(refused.value)
