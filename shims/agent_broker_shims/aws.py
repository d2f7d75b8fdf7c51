"""AWS's ``credential_process``: the shim is given the profile's name as its one argument, and prints JSON.

Read from botocore 1.29 and 1.44 (credentials.ProcessProvider) and the SDK reference, "Process credential provider". The
command is run without a shell; whatever it prints with another code than 0 is dropped, and stderr becomes the error
that the person reads. So a refusal is a sentence there, and never anything but JSON with code 0.

Keys without ``Expiration`` are kept for the life of the process; with less than 15 minutes left the SDK asks again at
every use.
"""

import json
from collections.abc import Mapping, Sequence

from agent_broker_shims.port import Answer, NotThisProtocolError, Question

TOOL = "aws"
_VERSION = 1
_MAX_NAME_CHARS = 256
_FIELDS = {
    "aws_access_key_id": "AccessKeyId",
    "aws_secret_access_key": "SecretAccessKey",
    "aws_session_token": "SessionToken",
    "expiration": "Expiration",
}
"""The names of ~/.aws/credentials, in which the broker keeps a pair, and those of the protocol."""


def question(arguments: Sequence[str], stdin: bytes, environment: Mapping[str, str]) -> Question | Answer:
    """Return whose keys are asked for.

    Raises:
        NotThisProtocolError: no profile's name.
    """
    del stdin, environment
    if len(arguments) != 1 or not arguments[0].isprintable() or not 0 < len(arguments[0]) <= _MAX_NAME_CHARS:
        raise NotThisProtocolError("credential_process names one profile")
    return Question("", name=arguments[0])


def answer(asked: Question, username: str, password: bytes) -> bytes:
    """Return what the SDK reads; ``password`` is the pair, as JSON.

    Raises:
        NotThisProtocolError: it is no pair.
    """
    del asked, username
    try:
        held = json.loads(password)
        pair = {theirs: str(held[ours]) for ours, theirs in _FIELDS.items() if held.get(ours)}
    except (ValueError, AttributeError) as error:
        raise NotThisProtocolError("what is kept is no pair of keys") from error
    if "AccessKeyId" not in pair or "SecretAccessKey" not in pair:
        raise NotThisProtocolError("what is kept is no pair of keys")
    return json.dumps({"Version": _VERSION, **pair}).encode() + b"\n"


def not_found(asked: Question) -> Answer:
    """Return what ends the client: no other provider may take the profile's place."""
    del asked
    return Answer(1, stderr=b"agent-broker keeps no keys of this profile; see: agent-broker credentials\n")
