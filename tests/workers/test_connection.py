"""The reading of an answer, byte by byte and without a socket."""

import httpx
import pytest

from workers.connection import AnswerLimits, AnswerReader
from workers.delivery_errors import ResponseHeadTooLarge

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n3\r\nabc\r\n2;a=b\r\nde\r\n0\r\nT: u\r\n\r\n"


def read(*pieces: bytes, limits: AnswerLimits | None = None) -> AnswerReader:
    reader = AnswerReader(limits or AnswerLimits())
    for piece in pieces:
        reader.feed(piece)
    return reader


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_an_answer_reads_the_same_in_pieces_of_any_size(size: int) -> None:
    reader = read(*(CHUNKED[start : start + size] for start in range(0, len(CHUNKED), size)))

    assert (reader.status, reader.headers) == (200, [(b"Transfer-Encoding", b"chunked"), (b"X", b"y")])
    assert (bytes(reader.body), reader.complete, reader.truncated, reader.keep_alive) == (b"abcde", True, False, True)


@pytest.mark.parametrize("size", [len(CHUNKED) - 1, len(CHUNKED) - 10, len(CHUNKED) - 20])
def test_a_chunked_answer_without_its_last_bytes_is_not_complete(size: int) -> None:
    reader = read(CHUNKED[:size])

    assert (reader.complete, reader.ends_with_connection()) == (False, False)


def test_two_hundred_headers_are_read_and_one_more_is_not() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"

    assert len(read(head + b"X: y\r\n" * 199 + b"\r\n").headers) == 200
    with pytest.raises(ResponseHeadTooLarge, match=r"^the answer's headers exceed 200 lines or 64 KiB$"):
        read(head + b"X: y\r\n" * 200 + b"\r\n")


@pytest.mark.parametrize("pieces", [1, 1000])
def test_headers_up_to_64_kib_are_read_and_one_byte_more_is_not(pieces: int) -> None:
    def answer(value_bytes: int) -> list[bytes]:
        whole = b"HTTP/1.1 200 OK\r\nX: " + b"x" * value_bytes + b"\r\n\r\n"
        size = len(whole) // pieces
        return [whole[start : start + size] for start in range(0, len(whole), size)]

    most = 65_536 - len("X: \r\n")
    if pieces == 1:  # all in one read: the headers alone are counted
        assert read(*answer(most)).status == 200
    with pytest.raises(ResponseHeadTooLarge):
        read(*answer(most + 1))


def test_the_headers_of_interim_answers_count_together() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nX: " + b"x" * 10_000 + b"\r\n\r\n"

    with pytest.raises(ResponseHeadTooLarge):
        read(*[interim] * 7)


def test_ten_interim_answers_are_passed_over_and_one_more_is_not() -> None:
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"
    final = b"HTTP/1.1 204 No Content\r\n\r\n"

    assert read(interim * 10 + final).status == 204
    with pytest.raises(httpx.RemoteProtocolError, match=r"^too many interim \(1xx\) answers$"):
        read(interim * 11 + final)


def test_a_body_in_the_smallest_chunks_is_cut_rather_than_read_for_ever() -> None:
    reader = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 60_000)

    assert (reader.complete, reader.truncated, len(reader.body)) == (False, True, 60_000)


def test_a_body_of_exactly_its_cap_is_whole() -> None:
    limits = AnswerLimits(body_bytes=5)

    whole = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", limits=limits)
    cut = read(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef", limits=limits)

    assert (bytes(whole.body), whole.complete, whole.truncated) == (b"abcde", True, False)
    assert (bytes(cut.body), cut.complete, cut.truncated) == (b"abcde", False, True)


@pytest.mark.parametrize("chunk", [b"Content-Length: 500000\r\n\r\n", None])
def test_only_what_is_not_body_counts_as_framing(chunk: bytes | None) -> None:
    chunked = b"Transfer-Encoding: chunked\r\n\r\n" + b"1388\r\n%b\r\n" % (b"x" * 5_000) * 100 + b"0\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\n" + (chunk + b"x" * 500_000 if chunk else chunked)
    pieces = (answer[start : start + 1_000] for start in range(0, len(answer), 1_000))

    reader = read(*pieces, limits=AnswerLimits(body_bytes=1_000_000))

    assert (len(reader.body), reader.complete, reader.truncated) == (500_000, True, False)


@pytest.mark.parametrize("surplus", [b"x", b"\r\nx", b"HTTP/1.1 500 No\r\n\r\n", b"HTTP", b"\0"])
@pytest.mark.parametrize(
    "length", [b"Content-Length: 2\r\n\r\nok", b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"]
)
def test_what_follows_a_complete_answer_changes_nothing_but_ends_the_connection(surplus: bytes, length: bytes) -> None:
    reader = read(b"HTTP/1.1 200 OK\r\n" + length + surplus)

    assert (reader.status, bytes(reader.body), reader.complete, reader.keep_alive) == (200, b"ok", True, False)


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_a_connection_is_kept_when_the_answer_lets_it(head: bytes, keep_alive: bool) -> None:
    reader = read(head + b"Content-Length: 0\r\n\r\n")

    assert (reader.complete, reader.keep_alive) == (True, keep_alive)


def test_only_an_answer_without_a_stated_length_ends_with_its_connection() -> None:
    assert read(b"HTTP/1.1 200 OK\r\n\r\nabc").ends_with_connection() is True
    assert read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc").ends_with_connection() is False
    assert read(b"HTTP/1.1 200 OK\r\n").ends_with_connection() is False
    interim = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n"
    assert read(interim + b"HTTP/1.1 200 OK\r\n\r\nabc").ends_with_connection() is True
