"""One canonical form: what decodes encodes to the same bytes, what does not is a FrameError."""

import struct

from hypothesis import example, given
from hypothesis import strategies as st

from agent_broker.transport.frame import (
    FrameError,
    ShimAnswer,
    ShimRequest,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
names = st.text(st.characters(exclude_characters="\0=", exclude_categories=["Cs"]), min_size=1, max_size=12)
requests = st.builds(
    ShimRequest,
    st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    st.lists(text, max_size=6).map(tuple),
    st.binary(max_size=200),
    st.dictionaries(names, text, max_size=4).map(lambda env: tuple(env.items())),
)
answers = st.builds(ShimAnswer, st.integers(0, 255), st.binary(max_size=200), st.binary(max_size=200))
fields = st.lists(st.tuples(st.integers(0, 50), st.binary(max_size=20)), max_size=6)


def canonical_or_refused(frame: bytes, decode, encode) -> None:
    try:
        decoded = decode(frame)
    except FrameError as refusal:
        position_bytes = refusal.position_bytes
    else:
        position_bytes = 0
        assert encode(decoded) == frame
    assert 0 <= position_bytes <= len(frame)


@given(requests)
def test_every_request_survives_the_trip(request):
    assert decode_request(encode_request(request)) == request


@given(answers)
def test_every_answer_survives_the_trip(answer):
    assert decode_answer(bytes(encode_answer(answer))) == answer


@given(st.binary(max_size=300))
@example(b"ABRK\x01\x00\x01\x00\x00\x00\x00\x00")
def test_random_bytes(frame):
    canonical_or_refused(frame, decode_request, encode_request)
    canonical_or_refused(frame, decode_answer, encode_answer)


@given(fields, st.sampled_from([1, 2]), st.integers(-1, 1))
def test_random_fields_in_a_right_header(chosen, frame_type, slip):
    body = b"".join(struct.pack("<HH", tag, len(value)) + value for tag, value in chosen)
    frame = struct.pack("<4sHHI", b"ABRK", 1, frame_type, max(0, len(body) + slip)) + body
    canonical_or_refused(frame, decode_request, encode_request)
    canonical_or_refused(frame, decode_answer, encode_answer)


@given(requests, st.data())
def test_mutated_requests(request, data):
    frame = bytearray(encode_request(request))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(frame) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                frame[position] ^= data.draw(st.integers(1, 255))
            case "cut" if len(frame) > 1:
                del frame[position : position + data.draw(st.integers(1, 8))]
            case _:
                frame[position:position] = data.draw(st.binary(min_size=1, max_size=8))
        if not frame:
            break
    canonical_or_refused(bytes(frame), decode_request, encode_request)


@given(answers, st.integers(0, 500), st.integers(1, 255))
def test_mutated_answers(answer, position, flip):
    frame = encode_answer(answer)
    frame[position % len(frame)] ^= flip
    canonical_or_refused(bytes(frame), decode_answer, encode_answer)
