"""Identifiers: TypeIDs over UUIDv7."""

import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ids import Prefix, decode, encode, first_id_at, new_id, prefix_of


@pytest.mark.parametrize(
    ("uuid", "suffix"),
    [  # from the TypeID specification's valid.yml
        ("00000000-0000-0000-0000-000000000000", "00000000000000000000000000"),
        ("00000000-0000-0000-0000-000000000001", "00000000000000000000000001"),
        ("00000000-0000-0000-0000-00000000000a", "0000000000000000000000000a"),
        ("00000000-0000-0000-0000-000000000020", "00000000000000000000000010"),
        ("ffffffff-ffff-ffff-ffff-ffffffffffff", "7zzzzzzzzzzzzzzzzzzzzzzzzz"),
        ("0110c853-1d09-52d8-d73e-1194e95b5f19", "0123456789abcdefghjkmnpqrs"),
        ("01890a5d-ac96-774b-bcce-b302099a8057", "01h455vb4pex5vsknk084sn02q"),
    ],
)
def test_ids_are_type_ids(uuid: str, suffix: str) -> None:
    assert encode(Prefix.WEBHOOK, UUID(uuid)) == f"whk_{suffix}"
    assert decode(Prefix.WEBHOOK, f"whk_{suffix}") == UUID(uuid)


@given(st.uuids(), st.sampled_from(Prefix))
def test_what_is_encoded_is_decoded(uuid: UUID, prefix: Prefix) -> None:
    text = encode(prefix, uuid)
    assert re.fullmatch(f"{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}", text)
    assert decode(prefix, text) == uuid
    assert prefix_of(text) is prefix


@given(st.uuids(), st.uuids())
def test_ids_sort_as_their_uuids(one: UUID, other: UUID) -> None:
    assert (encode(Prefix.EVENT, one) < encode(Prefix.EVENT, other)) == (one < other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whk",
        "whk_",
        "01h455vb4pex5vsknk084sn02q",
        "_01h455vb4pex5vsknk084sn02q",
        "evt_01h455vb4pex5vsknk084sn02q",  # another kind
        "whk-01h455vb4pex5vsknk084sn02q",
        "whk__01h455vb4pex5vsknk084sn02q",
        "WHK_01h455vb4pex5vsknk084sn02q",
        "whk_01H455VB4PEX5VSKNK084SN02Q",  # lower case alone
        "whk_01h455vb4pex5vsknk084sn02",  # 25
        "whk_01h455vb4pex5vsknk084sn02qq",  # 27
        "whk_81h455vb4pex5vsknk084sn02q",  # 129 bits
        "whk_z1h455vb4pex5vsknk084sn02q",
        "whk_01h455vb4pex5vsknk084sn02i",  # i, l, o and u are not in the alphabet
        "whk_01h455vb4pex5vsknk084sn02l",
        "whk_01h455vb4pex5vsknk084sn02o",
        "whk_01h455vb4pex5vsknk084sn02u",
        "whk_01h455vb4pex5vsknk084sn0\u0662q",  # a digit, but not of ours
        "whk_01h455vb4pex5vsknk084sn02\0",
        " whk_01h455vb4pex5vsknk084sn02q",
        "whk_01h455vb4pex5vsknk084sn02q\n",
    ],
)
def test_what_is_no_id_is_not_decoded(text: str) -> None:
    assert decode(Prefix.WEBHOOK, text) is None


@given(st.text())
def test_no_text_makes_decoding_fail(text: str) -> None:
    for candidate in (text, f"whk_{text}"):
        found = decode(Prefix.WEBHOOK, candidate)
        assert found is None or encode(Prefix.WEBHOOK, found) == candidate
        assert prefix_of(candidate) in (None, *Prefix)


def test_new_ids_are_uuids_of_version_7_in_the_order_of_their_making() -> None:
    ids = [new_id() for _ in range(1000)]
    assert {(one.version, one.variant) for one in ids} == {(7, "specified in RFC 4122")}
    assert len(set(ids)) == 1000
    stamps = [one.int >> 64 for one in ids]
    assert stamps == sorted(stamps)


def test_the_first_id_of_a_millisecond_bounds_those_made_in_it() -> None:
    one = new_id()
    millisecond = one.int >> 80
    assert first_id_at(millisecond) <= one < first_id_at(millisecond + 1)
    assert first_id_at(1_645_557_742_000) == UUID("017f22e2-79b0-7000-8000-000000000000")  # RFC 9562, appendix A.6
