"""pnpm's token helper, as a pure function, and the real shim under a link's name."""

import pytest

from agent_broker.transport.frame import MAX_FRAME_BYTES, ShimAnswer, decode_request, encode_answer
from agent_broker_shims import pnpm
from agent_broker_shims.port import NotThisProtocolError, Question
from tests.fakes import shim
from tests.fakes.seqpacket import ScriptedBroker


def test_the_links_name_says_which_credential_is_meant():
    protocol, _, which = pnpm.link_of(1000, "npm.example.com-2").partition("@")

    assert protocol == pnpm.TOOL
    assert pnpm.question([which], b"", {}) == Question("", name="npm.example.com-2")


def test_the_answer_is_a_headers_value():
    assert pnpm.answer(Question("", name="mine"), "", b"token") == b"Bearer token\n"
    assert pnpm.not_found(Question("", name="mine")).stdout == b""


@pytest.mark.parametrize(
    "arguments",
    [[], ["1000.mine", "-c"], ["1000.mine", "-c", "echo"], ["mine"], ["1000."], [".mine"], ["1000.a/b"], ["1000.a\n"]],
    ids=["none", "option", "a shell's", "no user", "no name", "no number", "path", "line"],
)
def test_other_arguments_are_not_pnpms(arguments):
    """A folder's setting can name the helper as the shell of its scripts."""
    with pytest.raises(NotThisProtocolError):
        pnpm.question(arguments, b"", {})


@pytest.mark.parametrize(
    ("name", "protocol", "arguments"),
    [
        ("pnpm@1000.mine", "pnpm", ("1000.mine", "-c", "x")),
        ("pnpm@", "pnpm", ("", "-c", "x")),
        ("a@b@c", "a", ("b@c", "-c", "x")),
        ("pnpm", "pnpm", ("-c", "x")),
    ],
)
def test_the_shim_sends_what_is_behind_the_at_sign_of_its_name(tmp_path, name, protocol, arguments):
    with ScriptedBroker(tmp_path) as broker:
        process = shim.start("-c", "x", name=f"/some/where/{name}", root=tmp_path)
        with broker.accept() as connection:
            request = decode_request(connection.recv(MAX_FRAME_BYTES + 1))
            connection.send(encode_answer(ShimAnswer(0, stdout=b"Bearer x\n")))
        assert shim.finish(process) == (0, b"Bearer x\n", b"")
    assert (request.protocol, request.argv) == (protocol, arguments)
