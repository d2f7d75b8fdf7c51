"""The service principals of ``~/.azure/service_principal_entries.json``: ``az login --service-principal`` writes it.

Each secret is replaced in the file's own bytes by one of the same shape that opens nothing; of a certificate the file
with its private key. The login that az itself would use (the default subscription's) is kept under a name of its own,
``default``, beside that of its tenant: a program that names no tenant means that one.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from agent_broker.enroll.owner import Owner
from agent_broker.enroll.recipe import AbsentError, Decoy, FoundSecret, ReplaceFile, Row, Survey, SurveyedFile
from agent_broker.enroll.user_files import Content, UserFiles
from agent_broker.errors import MisuseError
from agent_broker.honeytoken.keys import rsa_private_key
from agent_broker.honeytoken.likeness import decoy_like
from agent_broker.honeytoken.presented import digests_of
from agent_broker.vault.record import MODES_ATTRIBUTE, PROFILE_ATTRIBUTE
from agent_broker.vault.secret import Secret
from agent_broker_shims.azure import DEFAULT

KIND: Final = "azure-service-principal"
ENTRIES: Final = ".azure/service_principal_entries.json"
PROFILE: Final = ".azure/azureProfile.json"
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
_CLIENT: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_KEY: Final = re.compile(r"-----BEGIN PRIVATE KEY-----\n.*?-----END PRIVATE KEY-----\n", re.DOTALL)


class _Entry(msgspec.Struct):
    """One principal, as azure-cli 2.30 and newer writes it."""

    client_id: str
    tenant: str
    client_secret: str = ""
    certificate: str = ""
    use_cert_sn_issuer: bool | None = None


@dataclass
class AzureSurvey:
    """One look at one home."""

    files: UserFiles
    owner: Owner
    warnings: list[str]
    secrets: list[FoundSecret] = field(default_factory=list)
    needles: list[Secret] = field(default_factory=list)
    changed: list[SurveyedFile] = field(default_factory=list)
    decoys: list[Decoy] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def survey(self) -> Survey:
        """Return what is there and what shall be done."""
        content = self.files.read(ENTRIES)
        name = self.files.absolute(ENTRIES)
        entries = [] if content is None else _entries(content.data, name)
        if content is None or not entries:
            raise AbsentError(
                f"{name} holds no service principal",
                next_step="az login --service-principal, then try again; what a person logs in with stays with az",
            )
        data, made = content.data.decode(), []
        for entry in entries:
            self._require_movable(entry, entries, name)
            if entry.client_secret:
                decoy = decoy_like(entry.client_secret)
                data = _replaced(data, entry.client_secret, decoy, name)
                made.append(decoy)
                self._keep(entry, {"client_secret": entry.client_secret}, ENTRIES)
            else:
                self._take_certificate(entry)
        if made:
            self._change(ENTRIES, content, data, digests_of(made), f"{len(made)} secrets of service principals")
        self._keep_default(entries)
        self.warnings.append(
            "the Azure CLI itself can't log in any more with what moves: it gets no tokens from the broker"
        )
        return self._result()

    def _require_movable(self, entry: _Entry, entries: list[_Entry], name: str) -> None:
        problem = ""
        if not _TENANT.fullmatch(entry.tenant) or not _CLIENT.fullmatch(entry.client_id) or entry.tenant == DEFAULT:
            problem = "whose tenant or number has not the form of one"
        elif sum(each.tenant == entry.tenant for each in entries) > 1:
            problem = f"that shares the tenant {entry.tenant} with another: it would not be known which one is meant"
        elif not entry.client_secret and not entry.certificate:
            problem = "without a secret"
        elif entry.use_cert_sn_issuer:
            problem = "that shows its certificate's chain (use_cert_sn_issuer), which the broker can't"
        if problem:
            raise MisuseError(f"{name} has a service principal {problem}", next_step="az logout it, then try again")

    def _keep(self, entry: _Entry, proof: dict[str, str], file: str) -> None:
        held = {"client_id": entry.client_id, "tenant": entry.tenant, **proof}
        value = Secret(json.dumps(held).encode())
        attributes = {MODES_ATTRIBUTE: "mint", PROFILE_ATTRIBUTE: entry.tenant}
        self.secrets.append(FoundSecret(entry.tenant, KIND, value, file, (entry.tenant,), "fixed", attributes))
        self.needles += [Secret(each.encode()) for each in proof.values()]

    def _take_certificate(self, entry: _Entry) -> None:
        home = f"{self.owner.home.rstrip('/')}/"
        path = entry.certificate.removeprefix(home)
        if path == entry.certificate or any(part in {"", ".", ".."} for part in path.split("/")):
            raise MisuseError("a service principal's certificate lies outside of the home", next_step="move it there")
        content = self.files.read(path)
        pem = "" if content is None else content.data.decode("utf-8", "replace")
        if content is None or len(_KEY.findall(pem)) != 1 or "-----BEGIN CERTIFICATE-----" not in pem:
            raise MisuseError(
                f"{self.files.absolute(path)} is no PEM file of one private key (PKCS#8, without a passphrase) and its "
                "certificate",
                next_step="az ad sp create-for-rbac writes one; or use a secret",
            )
        decoy = rsa_private_key()
        self._keep(entry, {"certificate": pem}, path)
        self.needles[-1] = Secret(_KEY.findall(pem)[0].encode())
        self._change(path, content, _KEY.sub(lambda _: decoy, pem), digests_of([decoy]), "a service principal's key")

    def _change(self, path: str, content: Content, text: str, digests: Any, holds: str) -> None:
        self.changed.append(SurveyedFile(path, content, (ReplaceFile(text.encode()),)))
        self.decoys.append(Decoy(path, "azure-service-principal", digests, shared=path == ENTRIES))
        will = "to the vault; decoys of the same shape instead; watched"
        self.rows.append(Row(self.files.absolute(path), holds, will))

    def _keep_default(self, entries: list[_Entry]) -> None:
        client = entries[0].client_id if len(entries) == 1 else self._default_client()
        found = next((at for at, each in enumerate(entries) if each.client_id == client), None)
        if found is None:
            self.warnings.append("az's own login is none of these: programs must name a tenant")
            return
        kept = self.secrets[found]
        attributes = {**kept.attributes, PROFILE_ATTRIBUTE: DEFAULT}
        self.secrets.insert(0, FoundSecret(DEFAULT, KIND, kept.value, kept.file, kept.path, kept.form, attributes))

    def _default_client(self) -> str:
        """Return who az's default subscription is used as; empty: not known."""
        content = self.files.read(PROFILE)
        try:
            profile = json.loads(b"{}" if content is None else content.data.decode("utf-8-sig"))
            default = next(each for each in profile["subscriptions"] if each["isDefault"])
            return str(default["user"]["name"])
        except (ValueError, KeyError, TypeError, StopIteration):
            return ""

    def _result(self) -> Survey:
        return Survey(
            files=tuple(self.changed),
            secrets=tuple(self.secrets),
            active=self.secrets[0].name,
            decoys=tuple(self.decoys),
            needles=tuple(self.needles),
            scan_first=tuple(each.path for each in self.changed),
            rows=tuple(self.rows),
            warnings=tuple(self.warnings),
        )


def _entries(data: bytes, name: str) -> list[_Entry]:
    try:
        return msgspec.json.decode(data, type=list[_Entry])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MisuseError(
            f"{name} is not what azure-cli 2.30 or newer writes", next_step="az logout, log in again, then try again"
        ) from error


def _replaced(data: str, secret: str, decoy: str, name: str) -> str:
    """Return a file with one string of it replaced, however az wrote that.

    Raises:
        MisuseError: it is not there exactly once.
    """
    spellings = {json.dumps(secret), json.dumps(secret, ensure_ascii=False)}
    found = [each for each in spellings if data.count(each) == 1]
    if len(found) != 1:
        raise MisuseError(
            f"{name} has a secret that is not there exactly once", next_step="az logout, log in again, then try again"
        )
    return data.replace(found[0], json.dumps(decoy))
