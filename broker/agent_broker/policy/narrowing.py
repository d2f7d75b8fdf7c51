"""What a rule takes off the sessions that are minted for it: a session policy of AWS's. Pure.

Kept as the one text that AWS is sent: the policy's JSON, or the ARNs of managed policies with a space between two.
AWS's limits (STS API, AssumeRole): 2048 characters of JSON, ten ARNs of 2048 characters.
"""

import json
import re
from collections.abc import Sequence
from typing import Final

from agent_broker.errors import MisuseError

_ARN: Final = re.compile(r"arn:aws[a-z-]*:iam::(?:aws|[0-9]{12}):policy/[\x21-\x7e]{1,512}")
_MAX_ARNS: Final = 10
_MAX_CHARS: Final = 2048


def parse_session_policy(written: str | Sequence[str]) -> str:
    """Return a session policy in its one form.

    Args:
        written: the JSON of a policy, the ARN of a managed one, or several ARNs.

    Raises:
        MisuseError: none of these; the message does not name a file.
    """
    if isinstance(written, str) and written.lstrip().startswith("{"):
        return _json(written)
    arns = [written] if isinstance(written, str) else list(written)
    if not 0 < len(arns) <= _MAX_ARNS or not all(map(_ARN.fullmatch, arns)):
        raise MisuseError("a session policy is the JSON of one, or up to ten ARNs: arn:aws:iam::aws:policy/NAME")
    return " ".join(arns)


def _json(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise MisuseError("the session policy is not JSON") from error
    if not isinstance(value, dict) or "Statement" not in value:
        raise MisuseError("the session policy has no Statement")
    short = json.dumps(value, separators=(",", ":"))
    if len(short) > _MAX_CHARS:
        raise MisuseError(f"the session policy is longer than {_MAX_CHARS} characters, which AWS does not take")
    return short
