"""AWS's credential_process, as a pure function, and as botocore itself reads it."""

import datetime as dt
import json

import pytest
from botocore.credentials import ProcessProvider
from botocore.exceptions import CredentialRetrievalError

from agent_broker_shims import aws
from agent_broker_shims.port import NotThisProtocolError, Question

PAIR = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "a-secret", "aws_session_token": ""}


@pytest.mark.parametrize("name", ["default", "a b", "x" * 256])
def test_a_profile_is_asked_for_by_its_name(name):
    assert aws.question([name], b"", {}) == Question("", name=name)


@pytest.mark.parametrize("arguments", [[], [""], ["a", "b"], ["a\nb"], ["x" * 257], ["\udcff"]])
def test_what_names_no_profile_is_none(arguments):
    with pytest.raises(NotThisProtocolError):
        aws.question(arguments, b"", {})


@pytest.mark.parametrize("kept", [b"", b"[]", b"{}", b'"x"', b'{"aws_access_key_id": "A"}', b"\xff"])
def test_what_is_no_pair_is_not_answered(kept):
    with pytest.raises(NotThisProtocolError):
        aws.answer(Question("", name="dev"), "", kept)


def test_a_profile_without_keys_ends_the_client_in_words():
    answer = aws.not_found(Question("", name="dev"))

    assert (answer.exit_code, answer.stdout) == (1, b"")
    assert b"no keys of this profile" in answer.stderr


class Helper:
    """What botocore starts: gives these answers, one a call."""

    def __init__(self, *answers, code=0, stderr=b""):
        self.answers, self.calls, self.code, self.stderr = list(answers), [], code, stderr

    def __call__(self, command, **_):
        self.calls.append(command)
        self.returncode = self.code
        return self

    def communicate(self):
        return (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]), self.stderr


def given(seconds=None, **changes):
    """Return the answer for a pair that ends in so many seconds; None: a static one."""
    pair = {**PAIR, **changes}
    if seconds is not None:
        ends = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        pair |= {"aws_session_token": "a-token", "expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return aws.answer(Question("", name="dev"), "", json.dumps(pair).encode())


def loaded(helper):
    config = {"profiles": {"dev": {"credential_process": "/shim aws 'dev'"}}}
    return ProcessProvider("dev", lambda: config, popen=helper).load()


def used(helper, times=5):
    """Return the credentials after so many uses."""
    credentials = loaded(helper)
    for _ in range(times):
        frozen = credentials.get_frozen_credentials()
    return frozen


def test_a_session_of_an_hour_is_asked_for_once():
    helper = Helper(given(3600))

    assert used(helper).token == "a-token"
    assert helper.calls == [["/shim", "aws", "dev"]]


def test_a_key_without_an_end_is_asked_for_once():
    helper = Helper(given())

    assert (used(helper).secret_key, len(helper.calls)) == ("a-secret", 1)


def test_with_less_than_15_minutes_left_botocore_asks_at_every_use():
    helper = Helper(given(840))

    assert used(helper, 5).token == "a-token"
    assert len(helper.calls) == 6


def test_a_session_that_has_ended_is_no_session():
    with pytest.raises(RuntimeError, match="still expired"):
        used(Helper(given(-5)))


def test_a_refusal_is_what_the_person_reads():
    helper = Helper(b"", code=3, stderr=b"agent-broker: no policy rule lets agent claude ...")

    with pytest.raises(CredentialRetrievalError, match="no policy rule lets agent claude"):
        loaded(helper)


def test_a_profile_that_is_not_there_is_no_other_profile():
    answer = aws.not_found(Question("", name="dev"))

    with pytest.raises(CredentialRetrievalError, match="no keys of this profile"):
        loaded(Helper(answer.stdout, code=answer.exit_code, stderr=answer.stderr))
