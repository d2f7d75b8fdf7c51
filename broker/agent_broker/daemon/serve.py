"""The injection endpoint and the ssh-agent, put together from the broker's parts."""

import socket

from agent_broker.config.document import Upstreams as ConfiguredUpstreams
from agent_broker.daemon.login_ended import LoginEnded
from agent_broker.daemon.parts import Parts
from agent_broker.ids import CredentialId
from agent_broker.inject.caller import ConnectionCaller
from agent_broker.inject.connections import MakeCaller
from agent_broker.inject.endpoint import Endpoint
from agent_broker.inject.entra_tokens import EntraMinter
from agent_broker.inject.forward import Forwarder
from agent_broker.inject.google_metadata import GoogleMetadata
from agent_broker.inject.google_tokens import MINTED
from agent_broker.inject.oauth import TokenKeeper
from agent_broker.inject.oauth_servers import ANTHROPIC, GOOGLE, OPENAI
from agent_broker.inject.peer import PeerFinder, SocketLike
from agent_broker.inject.sock_diag import SockDiag
from agent_broker.inject.sts_tokens import StsMinter
from agent_broker.inject.upstream import Upstreams
from agent_broker.sign.agent import SshAgent
from agent_broker.sign.connections import SignSocket
from agent_broker.vault.file import Credential, Vault
from agent_broker.vault.secret import Secret


class VaultTokens:
    """Implements inject.oauth.TokenStore on the vault."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def unseal(self, id: CredentialId) -> Secret:  # noqa: A002 - the port's name for it
        """Return the stored tokens."""
        return self._vault.unseal(id)

    def store(self, credential: Credential, secret: Secret) -> None:
        """Replace the tokens, keeping all else; durable on return."""
        self._vault.put(
            credential.id,
            kind=credential.kind,
            agent=credential.agent,
            owner_uid=credential.owner_uid,
            attributes=credential.attributes,
            secret=secret,
        )


def make_endpoint(parts: Parts) -> Endpoint:
    """Return the endpoint; it serves once it is given its sockets."""
    tokens = _token_keeper(parts)
    return Endpoint(
        issuer=parts.issuer,
        book=parts.phantoms,
        make_caller=_caller_maker(parts),
        upstreams=Upstreams(base_urls(parts.config.upstream)),
        tokens=tokens,
        forwarder=Forwarder(),
        decoys=parts.decoy_use,
        standings=parts.standings,
        google=GoogleMetadata(issuer=parts.issuer, credentials=parts.enrolled, tokens=tokens),
    )


def make_sign_socket(parts: Parts, listener: socket.socket) -> SignSocket:
    """Return the ssh-agent on a listening socket; it answers once it is started."""
    agent = SshAgent(parts.issuer, parts.ssh_keys, parts.refusals)
    return SignSocket(listener, agent, _caller_maker(parts), standings=parts.standings)


def _caller_maker(parts: Parts) -> MakeCaller:
    finder = PeerFinder(SockDiag(), parts.clock)

    def make_caller(connection: SocketLike) -> ConnectionCaller:
        return ConnectionCaller(connection, finder, parts.monitor)

    return make_caller


def make_minters(parts: Parts) -> dict[str, StsMinter | EntraMinter]:
    """Return who mints from which kind of credential; each is to be closed."""
    upstream = parts.config.upstream
    return {
        "aws-keys": StsMinter(parts.clock, upstream.sts.base_url),
        "azure-service-principal": EntraMinter(parts.clock, upstream.entra.base_url),
    }


def base_urls(upstream: ConfiguredUpstreams) -> dict[str, str]:
    """Return where the operator has each provider of inject.kinds."""
    return {
        "anthropic": upstream.anthropic.base_url,
        "openai": upstream.openai.base_url,
        "chatgpt": upstream.openai.chatgpt_base_url,
        "gemini": upstream.gemini.base_url,
        "code-assist": upstream.gemini.code_assist_base_url,
        "vertex": upstream.vertex.base_url,
        "bedrock": upstream.bedrock.base_url,
    }


def _token_keeper(parts: Parts) -> TokenKeeper:
    return TokenKeeper(
        VaultTokens(parts.vault),
        parts.clock,
        token_urls=token_urls(parts.config.upstream),
        watch=LoginEnded(parts.raise_alert, parts.clock),
    )


def token_urls(upstream: ConfiguredUpstreams) -> dict[str, str]:
    """Return where the refresh tokens of each kind are spent."""
    return {
        ANTHROPIC.kind: upstream.anthropic.oauth_token_url,
        OPENAI.kind: upstream.openai.oauth_token_url,
        GOOGLE.kind: upstream.gemini.oauth_token_url,
        **dict.fromkeys(MINTED, upstream.vertex.oauth_token_url),
    }
