"""One stretch of ours in a file of the user's: put there and taken out, every other byte as it was."""

import pytest

from agent_broker.enroll.block_document import OURS, BlockDocument
from agent_broker.enroll.pointer import NotEditableError

TEXT = "[include]\n\tpath = ~/x\n"


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"[user]\n\tname = A\n",
        b"[user]\n\tname = A",
        b"# only a comment\r\n[user]\r\n",
        b"\n\n",
        b"\xef\xbb\xbf"[:0],
    ],
)
def test_it_goes_to_the_end_and_out_again(before):
    with_ours = BlockDocument.open(before).with_value(OURS, TEXT)

    assert with_ours.value == {"agent-broker": TEXT}
    assert with_ours.data.startswith(before)
    assert BlockDocument.open(with_ours.data).without(OURS).data == before


def test_what_the_owner_writes_behind_it_stays():
    text = BlockDocument.open(b"[a]\n").with_value(OURS, TEXT).data + b"[b]\n"

    assert BlockDocument.open(text).without(OURS).data == b"[a]\n[b]\n"


def test_what_the_owner_writes_into_it_is_seen():
    text = BlockDocument.open(b"").with_value(OURS, TEXT).data.replace(b"~/x\n", b"~/x\n\tpath = ~/y\n")

    assert BlockDocument.open(text).value == {"agent-broker": TEXT + "\tpath = ~/y\n"}


@pytest.mark.parametrize(
    "text",
    [
        b"a = b \\\n",
        b"# agent-broker: end\n",
        b"# agent-broker: this and the lines up to its end are removed by unenroll\n[a]\n",
    ],
)
def test_what_can_t_be_edited_is_refused(text):
    with pytest.raises(NotEditableError):
        BlockDocument.open(text)


def test_it_is_the_only_entry():
    with pytest.raises(NotEditableError):
        BlockDocument.open(b"").with_value(("other",), TEXT)
