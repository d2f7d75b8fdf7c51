"""An OAuth login whose access token is out of date: the broker refreshes it, or says that the provider has ended it."""

import secrets

from tests.demo.check import require
from tests.demo.memory import grep
from tests.e2e.agents.acts import refuse_turn
from tests.e2e.agents.client import Client
from tests.e2e.agents.place import Place, require_well

REFRESHED = "refreshed once, by the broker; unenrolled: the new login is in its file"
_ROTATED = "mock-refresh-"
"""How a refresh token begins that the provider gives for another one."""
AND_WORKS = f"{REFRESHED} and works"


def refresh(place: Place, client: Client) -> str:
    """The broker alone refreshes; unenrolment gives the new login back, which works without the broker."""
    access = f"access-{secrets.token_hex(24)}"
    old = place.login.secrets["refresh token"]
    place.answers("refreshed", new_access=access, replies={old: "the refresh token was shown to the model"})
    before = len(place.requests())
    turn = place.turn(client)
    asked = [each for each in place.requests()[before:] if client.refreshes(each["target"])]
    require([old in each["marks"] for each in asked] == [True], "one refresh, with the real token", len(asked))
    sent = {"authorization": f"Bearer {access}"}
    require_well(turn, client, sent)
    place.answers("with the new login")
    place.unenroll(client)
    holding = [set(grep({"token": each}, place.world.home)) for each in (access, _ROTATED)]
    require(set.intersection(*holding), "the new login in its file, with both tokens", "it is not")
    require(not grep({"refresh token": old}, place.world.home), "the old refresh token, used up, nowhere", "it is")
    if place.login.needs_its_maker:
        return REFRESHED
    require_well(place.turn(client, directly=True), client, sent)
    return AND_WORKS


def revoke(place: Place, client: Client) -> str:
    """The provider has ended the login: the agent's user is told."""
    place.answers(token_status=400)
    refused = refuse_turn(place, client)
    require("ended this login" in refused.said, "the agent to say that the login has ended", refused.said)
    return refused.told
