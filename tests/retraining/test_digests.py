import pytest
from hypothesis import given
from hypothesis import strategies as st

from retraining.digests import Digest, canonical_json, parse_json
from retraining.errors import EvidenceError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_canonical_json_survives_a_round_trip_byte_for_byte(value: object) -> None:
    assert canonical_json(parse_json(canonical_json(value))) == canonical_json(value)


def test_integers_beyond_double_precision_keep_every_digit() -> None:
    assert canonical_json(parse_json(b'{"n":9007199254740993}')) == b'{"n":9007199254740993}'


@pytest.mark.parametrize(
    "text", [b'{"a":1,"a":2}', b"NaN", b"[Infinity]", b"{", b"\xff", b"[" * 100_000]
)
def test_two_readers_cannot_disagree_about_a_record(text: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_json(text)


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "A" * 64, "md5:" + "0" * 64, "sha256:" + "0" * 64 + "\n"]
)
def test_nothing_else_poses_as_a_digest(text: str) -> None:
    with pytest.raises(EvidenceError, match="Expected a digest"):
        Digest(text)


def test_a_digest_covers_all_bytes() -> None:
    data = bytes(100_000)
    assert Digest.of(data) != Digest.of(data[:-1] + b"\x01")
    assert Digest.from_hex(Digest.of(data).hex) == Digest.of(data)
