"""Azure's access tokens, minted by the broker from a service principal whose secret, or key, goes nowhere else.

What is kept, and for how long: inject.minted. There is one token for each credential and each scope. A secret is
posted, and a certificate's key signs a JWT of ten minutes (RFC 7523), to the token endpoint of the principal's own
tenant, at the address that the operator or this code names.

Forms: Microsoft's "OAuth 2.0 client credentials flow" and "certificate credentials".
"""

import base64
import hashlib
import re
import uuid
from typing import Final
from urllib.parse import urlencode

import msgspec
from msgspec import Struct
from yarl import URL

from agent_broker.clock import Clock
from agent_broker.errors import IntegrityError, UnavailableError
from agent_broker.inject.mint_client import Answered, MintClient
from agent_broker.inject.minted import Fresh, Minted, UnknownToServerError
from agent_broker.inject.oauth_clock import EARLY_NS, answered_at_ms
from agent_broker.inject.oauth_tokens import decode_answer, fingerprint
from agent_broker.vault.file import Credential
from agent_broker.vault.secret import Secret

OWN_URL: Final = "https://login.microsoftonline.com"
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
_ASSERTION_S: Final = 600
_NS_PER_S: Final = 1_000_000_000
_OK: Final = 200
_UNKNOWN: Final = frozenset({"invalid_client", "unauthorized_client"})
_MAX_SAID_CHARS: Final = 200
_ANEW: Final = "sudo agent-broker unenroll azure, put the new secret into its file, and enroll again"
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}


class ServicePrincipal(Struct, frozen=True):
    """What the vault holds of one, as JSON."""

    client_id: str
    tenant: str
    client_secret: str = ""
    certificate: str = ""
    """PEM of a private key and its certificate, where there is no secret."""

    def __repr__(self) -> str:
        return "<ServicePrincipal>"


class _Refusal(Struct, frozen=True):
    error: str = ""
    error_description: str = ""


class EntraMinter:
    """See the module (transport.ports.Minter)."""

    def __init__(self, clock: Clock, base_url: str = OWN_URL) -> None:
        """``base_url``: where the operator has Microsoft's login."""
        self._clock = clock
        self._base_url = base_url
        self._http = MintClient()
        self._minted = Minted(clock, EARLY_NS)

    async def mint(self, credential: Credential, secret: Secret, narrowed: str, scope: str) -> Secret:
        """Return a token for a scope as JSON: ``access_token``, ``expires_on`` (Unix time), ``tenant``.

        Raises:
            UnavailableError: it is refused, or nobody answers and no token is left; or the rule has a session policy,
                which Azure does not know.
            IntegrityError: what is stored is no service principal.
        """
        if narrowed:
            raise UnavailableError("Azure's tokens can't be narrowed by a session policy", next_step="mend the rule")
        principal = stored_principal(secret)
        source = fingerprint(secret.reveal().decode("utf-8", "surrogateescape"))
        return await self._minted.get((credential.id, scope), source, lambda: self._ask(principal, scope))

    async def close(self) -> None:
        """End what is under way."""
        await self._minted.close()
        await self._http.close()

    async def _ask(self, principal: ServicePrincipal, scope: str) -> Fresh:
        url = URL(f"{self._base_url}/{principal.tenant}/oauth2/v2.0/token")
        form = {"grant_type": "client_credentials", "client_id": principal.client_id, "scope": scope}
        form |= _proof(principal, self._clock.wall_ns() // _NS_PER_S)
        asked_ns = self._clock.boot_ns()
        answered = await self._http.post("Microsoft's login", url, urlencode(form).encode(), _FORM)
        given = decode_answer(answered.body) if answered.status == _OK else None
        if given is None or not given.lifetime_s:
            raise _refused(answered)
        ends_s = answered_at_ms(answered.date, self._clock) // 1000 + given.lifetime_s
        token = {"access_token": given.access_token, "expires_on": ends_s, "tenant": principal.tenant}
        return Fresh(Secret(msgspec.json.encode(token)), asked_ns + given.lifetime_s * _NS_PER_S)


def stored_principal(secret: Secret) -> ServicePrincipal:
    """Return what is stored, decoded.

    Raises:
        IntegrityError: it is no service principal.
    """
    try:
        with secret.borrow() as stored:
            principal = msgspec.json.decode(stored, type=ServicePrincipal)
    except msgspec.DecodeError as error:
        raise _unreadable() from error
    if not (principal.client_secret or principal.certificate) or not _TENANT.fullmatch(principal.tenant):
        raise _unreadable()
    return principal


def _proof(principal: ServicePrincipal, now_s: int) -> dict[str, str]:
    if principal.client_secret:
        return {"client_secret": principal.client_secret}
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    return {"client_assertion_type": kind, "client_assertion": _assertion(principal, now_s)}


def _assertion(principal: ServicePrincipal, now_s: int) -> str:
    """Return the JWT that a certificate's owner shows; its audience is Microsoft's own, always."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415 - megabytes
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key  # noqa: PLC0415
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415

    try:
        pem = principal.certificate.encode()
        key, certificate = load_pem_private_key(pem, password=None), load_pem_x509_certificate(pem)
    except (ValueError, TypeError) as error:
        raise _unreadable() from error
    if not isinstance(key, RSAPrivateKey):
        raise _unreadable()
    thumbprint = hashlib.sha1(certificate.public_bytes(Encoding.DER), usedforsecurity=False).digest()
    header = {"alg": "RS256", "typ": "JWT", "x5t": _base64url(thumbprint).decode("ascii")}
    claims = {
        "aud": f"{OWN_URL}/{principal.tenant}/oauth2/v2.0/token",
        "iss": principal.client_id, "sub": principal.client_id, "jti": str(uuid.uuid4()),
        "nbf": now_s, "iat": now_s, "exp": now_s + _ASSERTION_S,
    }  # fmt: skip
    signed = b".".join(_base64url(msgspec.json.encode(each)) for each in (header, claims))
    return b".".join((signed, _base64url(key.sign(signed, PKCS1v15(), SHA256())))).decode("ascii")


def _refused(answered: Answered) -> UnavailableError:
    try:
        refusal = msgspec.json.decode(answered.body, type=_Refusal)
    except msgspec.DecodeError:
        refusal = _Refusal()
    said = "".join(char if char.isprintable() else " " for char in refusal.error_description[:_MAX_SAID_CHARS])
    if refusal.error in _UNKNOWN:
        return UnknownToServerError(f"Microsoft takes this service principal no more: {said}", next_step=_ANEW)
    what = f"Microsoft's login answers {answered.status} and gives no token"
    return UnavailableError(f"{what}: {said}" if said else what, next_step="try again in a minute")


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _unreadable() -> IntegrityError:
    return IntegrityError("the stored service principal can't be read", next_step=_ANEW)
