"""kubectl as a tool that can be enrolled: what its users' entries hold moves, and each asks the broker by ``exec``.

A static token, password or certificate outranks ``exec``, so none may stay in a user's entry, not as a decoy either:
the decoy of ``~/.kube/config`` is an entry of its own, with a cluster and a context that nothing uses. Programs that
the monitor's catalogue knows may read the file as before. The version ``v1beta1`` is what every kubectl since 1.20
takes (Debian 12 has 1.20); ``v1`` came with 1.22 and says the same.

What can't be given back by ``exec`` (a password), what renews itself in the file (``auth-provider``), and what is asked
of another program already stays as it is, and the plan says why.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.kubeconfig import DEFAULT, Cluster, ClusterError, Kubeconfigs
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.pointer import Pointer, Value
from agent_broker.enroll.recipe import (
    Decoy,
    Edit,
    FoundSecret,
    RemoveMember,
    ReplaceFile,
    Row,
    SetMember,
    Survey,
    SurveyedFile,
)
from agent_broker.enroll.tool_plan import StartsItsHelper, names_for
from agent_broker.enroll.user_files import Content, UserFiles
from agent_broker.errors import MisuseError
from agent_broker.honeytoken import machines
from agent_broker.honeytoken.entry import YamlEntries
from agent_broker.honeytoken.keys import private_key_like
from agent_broker.honeytoken.likeness import login_token_like
from agent_broker.honeytoken.presented import digests_of
from agent_broker.identity.registry import RoleRule
from agent_broker.ids import AgentName
from agent_broker.vault.record import DESTINATION_ATTRIBUTE, USERNAME_ATTRIBUTE
from agent_broker.vault.secret import Secret
from agent_broker_shims.kubectl import AUTHORITY, SERVER_NAME, VERSIONS

_TOOL: Final = AgentName("kubectl")
KIND: Final = "kubernetes-user"
VERSION: Final = VERSIONS[1]
_NAMES: Final = ("kubectl", *(f"kubectl.1.{minor}" for minor in range(20, 60)))
"""Google's package has one file a version, and a first one that chooses."""

_ROLE: Final = RoleRule(argv0_names=_NAMES, runtimes=("loader", "go-tls"), refused_arguments=("proxy",))
"""``kubectl proxy`` gives every process of the machine the use of what it was given: another program."""

_OUTRANKS: Final = ("username", "password", "auth-provider", "exec")
_TAKEN: Final = (
    "token", "tokenFile", "client-certificate", "client-certificate-data", "client-key", "client-key-data",
)  # fmt: skip
_WHY: Final = {
    "username": "a password can't be given to kubectl by another program",
    "password": "a password can't be given to kubectl by another program",
    "auth-provider": "an auth-provider renews its own login in the file",
    "exec": "it asks another program already",
}
_PEM_KEY: Final = re.compile(rb"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----")


@dataclass(frozen=True)
class _User:
    """One user's entry, and what it holds."""

    path: str
    name: str
    secret: dict[str, str] = field(repr=False)
    """As the answer to kubectl has it."""
    place: Pointer
    clusters: tuple[Cluster, ...]


@dataclass(frozen=True)
class KubectlRecipe(StartsItsHelper):
    """See ToolRecipe."""

    shim: Path
    agent: AgentName = _TOOL
    role: RoleRule = _ROLE
    is_script: bool = False

    @property
    def example(self) -> tuple[str, str]:
        """See ToolRecipe."""
        return "USER", "https://SERVER:6443"

    def binary_candidates(self, owner: Owner, search_path: Iterable[Path]) -> Iterator[Path]:
        """See Recipe: the distribution's first."""
        del owner
        yield from (Path("/usr/bin/kubectl"), Path("/usr/local/bin/kubectl"))
        yield from (folder / "kubectl" for folder in search_path)

    def all_programs(self, owner: Owner, search_path: Iterable[Path]) -> tuple[Path, ...]:  # noqa: ARG002 - the protocol's
        """See tool_plan.HasPrograms: Google's kubectl becomes the one beside it that fits the server's version."""
        places = (Path("/usr/bin/kubectl"), Path("/usr/local/bin/kubectl"), *(each / "kubectl" for each in search_path))
        found = next((each.resolve() for each in places if each.exists()), None)
        beside = [] if found is None else sorted(found.parent.glob("kubectl.1.[0-9]*"))
        others = tuple(each for each in beside if each.name in _NAMES and each.is_file())
        return (found, *others) if found is not None and others else ()

    def survey(self, files: UserFiles, owner: Owner) -> Survey:
        """See Recipe.

        Raises:
            MisuseError: no user's credential is there.
        """
        return _Survey(files, self.shim, Kubeconfigs.load(files, owner)).survey()


@dataclass
class _Survey:
    """One look at one home."""

    files: UserFiles
    shim: Path
    configs: Kubeconfigs
    users: list[_User] = field(default_factory=list)
    edits: dict[str, list[Edit]] = field(default_factory=dict)
    others: dict[str, SurveyedFile] = field(default_factory=dict)
    """Files that users' entries name."""
    decoys: list[Decoy] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def survey(self) -> Survey:
        """Return what is there and what shall be done."""
        for path, name in self.configs.users():
            self._user(path, name)
        if not self.users:
            said = "".join(f"; {each}" for each in (*self.configs.warnings, *self.warnings))
            raise MisuseError(
                f"no kubeconfig of this home holds a credential that can be moved{said}",
                next_step="log in to a cluster, then try again",
            )
        self._decoy_entry()
        secrets = tuple(self._secrets())
        changed = tuple(self._changed(path, edits) for path, edits in self.edits.items())
        return Survey(
            files=(*changed, *self.others.values()),
            secrets=secrets,
            active=secrets[0].name,
            decoys=tuple(self.decoys),
            needles=tuple(Secret(text.encode()) for user in self.users for text in _needles(user.secret)),
            scan_first=(*self.edits, *self.others),
            rows=tuple(self._rows()),
            warnings=(*self.configs.warnings, *self.warnings),
        )

    def _user(self, path: str, name: str) -> None:
        document = self.configs.documents[path]
        base: Pointer = ("users", name, "user")
        held = document.value(base)
        if not isinstance(held, dict) or not any(held.get(key) for key in (*_TAKEN, *_OUTRANKS)):
            return
        where = f"{document.name}: the user {name} stays as it is"
        outranking = next((key for key in _OUTRANKS if held.get(key)), None)
        if outranking is not None:
            self.warnings.append(f"{where}: {_WHY[outranking]}")
            return
        try:
            secret, place, files = self._taken(document, base)
            clusters = tuple(self._clusters(path, name))
        except MisuseError as error:
            self.warnings.append(f"{where}: {error.message}")
            return
        self.users.append(_User(path, name, secret, place, clusters))
        for other, replaced in files.items():
            self._replace(other, *replaced)
        edits: list[Edit] = [SetMember((*base, "exec", key), value) for key, value in _exec(self.shim, name).items()]
        edits += [RemoveMember((*base, key)) for key in _TAKEN if document.has((*base, key))]
        self.edits.setdefault(path, []).extend(edits)

    def _clusters(self, path: str, name: str) -> Iterator[Cluster]:
        named = self.configs.clusters_of(path, name)
        if not named:
            raise ClusterError("no context says at which cluster it is used")
        for each in named:
            try:
                yield self.configs.cluster(path, each)
            except ClusterError as error:
                if len(named) == 1:
                    raise
                self.warnings.append(f"the user {name} is not served everywhere: {error.message}")

    def _taken(
        self, document: DocumentFile, base: Pointer
    ) -> tuple[dict[str, str], Pointer, dict[str, tuple[Content, bytes]]]:
        """Return a user's secret as the vault has it, where it was, and the files whose content changes."""
        secret: dict[str, str] = {}
        files: dict[str, tuple[Content, bytes]] = {}
        place: Pointer = (*base, "token")
        token = document.text(place)
        if named := document.text((*base, "tokenFile")):
            path, content = self._read(document, named)
            token, place = content.data.decode("ascii", "replace").strip(), (*base, "tokenFile")
            files[path] = content, login_token_like(token).encode() + b"\n"
        if token:
            secret["token"] = token
        certificate = self._pem(document, base, "client-certificate")
        key = self._pem(document, base, "client-key")
        if bool(certificate) != bool(key):
            raise MisuseError("it has a certificate without a key, or a key without a certificate")
        if certificate and key:
            if not _PEM_KEY.search(key):
                raise MisuseError("its key has a passphrase, or is none")
            secret |= {"clientCertificateData": certificate.decode("ascii"), "clientKeyData": key.decode("ascii")}
            place = place if token else (*base, "client-key-data")
        if document.text((*base, "client-key")) and not document.text((*base, "client-key-data")):
            path, content = self._read(document, document.text((*base, "client-key")) or "")
            files[path] = content, private_key_like(content.data, _algorithm(content.data), "").encode()
            place = place if token else (*base, "client-key")
        return secret, place, files

    def _pem(self, document: DocumentFile, base: Pointer, name: str) -> bytes:
        data = document.text((*base, f"{name}-data"))
        if data:
            try:
                return base64.b64decode("".join(data.split()), validate=True)
            except binascii.Error as error:
                raise MisuseError(f"its {name}-data is not base64") from error
        named = document.text((*base, name))
        return self._read(document, named)[1].data if named else b""

    def _read(self, document: DocumentFile, named: str) -> tuple[str, Content]:
        path = self.configs.below_home(document, named)
        content = self.files.read(path)
        if content is None or not content.data.strip():
            raise MisuseError(f"there is nothing in {self.files.absolute(path)}")
        return path, content

    def _replace(self, path: str, content: Content, decoy: bytes) -> None:
        if path in self.others:
            return
        self.others[path] = SurveyedFile(path, content, (ReplaceFile(decoy),))
        self.decoys.append(Decoy(path, "kubernetes-key", digests_of([decoy.decode().strip()])))

    def _decoy_entry(self) -> None:
        """Put a cluster, a user and a context of nobody's into the file that thieves know, behind all others."""
        if DEFAULT not in self.edits:
            return
        made = machines.kubeconfig()
        items = made.entry.items if isinstance(made.entry, YamlEntries) else {}
        for kind, item in items.items():
            if isinstance(self.configs.documents[DEFAULT].value((kind,)), dict):
                self.edits[DEFAULT].append(SetMember((kind, made.name), json.loads(json.dumps(item))))
        self.decoys.append(Decoy(DEFAULT, "kubeconfig", digests_of(made.values), shared=True))

    def _secrets(self) -> Iterator[FoundSecret]:
        pairs = [(user, cluster) for user in self.users for cluster in user.clusters]
        names = names_for(
            f"{user.name}-{cluster.name}" if len(user.clusters) > 1 else user.name for user, cluster in pairs
        )
        for name, (user, cluster) in zip(names, pairs, strict=True):
            attributes = {
                DESTINATION_ATTRIBUTE: str(cluster.to),
                USERNAME_ATTRIBUTE: user.name,
                AUTHORITY: cluster.authority,
                SERVER_NAME: cluster.server_name,
            }
            value = Secret(json.dumps(user.secret).encode())
            yield FoundSecret(name, KIND, value, user.path, user.place, "fixed", attributes)

    def _changed(self, path: str, edits: list[Edit]) -> SurveyedFile:
        return SurveyedFile(path, self.configs.documents[path].content, tuple(edits), format="yaml")

    def _rows(self) -> Iterator[Row]:
        for path in self.edits:
            users = [user.name for user in self.users if user.path == path]
            what = f"credentials of {len(users)} user" + ("s" if len(users) > 1 else "")
            yield Row(self.files.absolute(path), what, "to the vault; the entries ask the broker; a decoy beside them")
        for path in self.others:
            yield Row(
                self.files.absolute(path), "a token or key", "to the vault; a decoy of its shape instead, watched"
            )


def _exec(shim: Path, user: str) -> dict[str, Value]:
    """Return a user's ``exec``; ``env`` is what kubectl writes when it writes the file anew."""
    return {
        "apiVersion": VERSION,
        "args": ["kubectl", user],
        "command": str(shim),
        "env": None,
        "interactiveMode": "Never",
        "provideClusterInfo": True,
    }


def _needles(secret: dict[str, str]) -> Iterator[str]:
    if "token" in secret:
        yield secret["token"]
    if "clientKeyData" in secret:
        yield base64.b64encode(secret["clientKeyData"].encode()).decode()
        lines = [line for line in secret["clientKeyData"].splitlines() if line and not line.startswith("-----")]
        if lines:
            yield lines[len(lines) // 2]


def _algorithm(key: bytes) -> str:
    return "ecdsa-sha2-nistp256" if b"BEGIN EC" in key else "ssh-rsa"
