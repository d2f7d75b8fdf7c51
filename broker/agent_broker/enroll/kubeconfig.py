"""What is in a user's kubeconfigs: which file, which users, and at which clusters each is used. Looks only.

kubectl merges the files of ``KUBECONFIG``; the first that has a name wins. Which files those are, the owner's session
and profiles say; ``~/.kube/config`` is looked at in any case.
"""

import base64
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from agent_broker.enroll.document_file import DocumentFile
from agent_broker.enroll.owner import Owner
from agent_broker.enroll.pointer import Missing, Value
from agent_broker.enroll.profile import exports
from agent_broker.enroll.session import session_exports
from agent_broker.enroll.user_files import UserFiles
from agent_broker.errors import MisuseError
from agent_broker.policy.destination import Destination
from agent_broker_shims.kubectl import authority_of
from agent_broker_shims.port import NotThisProtocolError

DEFAULT: Final = ".kube/config"
NAME: Final = "KUBECONFIG"
_SET: Final = re.compile(rf"{NAME}[= \t]+[\"']?([^\"'\s;#]+)")
_AT_HOME: Final = re.compile(r"(?:~|\$HOME|\$\{HOME\})(?=/)")


class ClusterError(MisuseError):
    """Nothing can be bound to this cluster; the message says why."""


@dataclass(frozen=True)
class Cluster:
    """Where a credential may be used."""

    name: str
    to: Destination
    authority: str
    """See agent_broker_shims.kubectl."""
    server_name: str


@dataclass
class Kubeconfigs:
    """All of one home's."""

    files: UserFiles
    documents: dict[str, DocumentFile] = field(default_factory=dict)
    """By their paths below the home, in the order in which they are looked at."""
    views: list[tuple[str, ...]] = field(default_factory=list)
    """What kubectl merges."""
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, files: UserFiles, owner: Owner) -> "Kubeconfigs":
        """Read them all.

        Raises:
            MisuseError: one is no kubeconfig that can be edited, or may not be touched.
        """
        found = cls(files)
        for text in _named(files, owner):
            found.views.append(tuple(found._paths(text, owner.home.rstrip("/"))))
        found.views.append((DEFAULT,))
        for path in dict.fromkeys(path for view in found.views for path in view):
            if files.look(path) is not None:
                found.documents[path] = DocumentFile.load(files, path, "yaml")
        return found

    def users(self) -> Iterator[tuple[str, str]]:
        """Yield the file and the name of each user."""
        for path, document in self.documents.items():
            users = document.value(("users",))
            if isinstance(users, list) and users:
                raise MisuseError(
                    f"{document.name}: two of its users have one name, or one has none", next_step="repair it"
                )
            yield from ((path, name) for name in (users if isinstance(users, dict) else ()))

    def clusters_of(self, path: str, user: str) -> list[str]:
        """Return the names of the clusters that a file's user is used at; of one in no context, the only cluster."""
        found: dict[str, None] = {}
        for view in self.views:
            if path not in view:
                continue
            for context in self._merged(view, "contexts").values():
                inner = context.get("context") if isinstance(context, dict) else None
                if isinstance(inner, dict) and inner.get("user") == user:
                    found[str(inner.get("cluster", ""))] = None
            clusters = self._merged(view, "clusters")
            if not found and len(clusters) == 1:
                found = dict.fromkeys(clusters)
        return list(found)

    def cluster(self, path: str, name: str) -> Cluster:
        """Return what a cluster is, as kubectl sees it with this file.

        Raises:
            ClusterError: it is none, is not checked, or can't be told from others.
        """
        for view in self.views:
            for each in view if path in view else ():
                document = self.documents.get(each)
                found = None if document is None else document.value(("clusters", name, "cluster"))
                if document is not None and isinstance(found, dict):
                    return self._cluster(document, name, found)
        raise ClusterError(f"the cluster {name} is in none of the files")

    def _cluster(self, document: DocumentFile, name: str, found: Mapping[str, Value]) -> Cluster:
        server = str(found.get("server") or "")
        if found.get("insecure-skip-tls-verify"):
            raise ClusterError(f"the cluster {name} is not checked (insecure-skip-tls-verify): anybody could be it")
        if not server.startswith("https://"):
            raise ClusterError(f"the cluster {name} is not at https://")
        try:
            to = Destination.parse(server)
            data = str(found.get("certificate-authority-data") or "") or self._authority(document, found)
            return Cluster(name, to, authority_of(data), str(found.get("tls-server-name") or ""))
        except (MisuseError, NotThisProtocolError) as error:
            raise ClusterError(f"the cluster {name} can't be bound to: {error}") from error

    def _authority(self, document: DocumentFile, found: Mapping[str, Value]) -> str:
        named = str(found.get("certificate-authority") or "")
        if not named:
            return ""
        path = self.below_home(document, named)
        content = self.files.read(path)
        if content is None:
            raise MisuseError(f"there is no {named}")
        return base64.b64encode(content.data).decode()

    def below_home(self, document: DocumentFile, named: str) -> str:
        """Return a file that a kubeconfig names, relative to the home.

        Raises:
            MisuseError: it is elsewhere.
        """
        path = posixpath.normpath(posixpath.join(posixpath.dirname(document.name), named))
        home = self.files.absolute("").rstrip("/") + "/"
        if not path.startswith(home):
            raise MisuseError(f"{path} is not below the home")
        return path.removeprefix(home)

    def _merged(self, view: Iterable[str], kind: str) -> dict[str, Value]:
        merged: dict[str, Value] = {}
        for path in view:
            document = self.documents.get(path)
            held: Value | Missing = None if document is None else document.value((kind,))
            for name, item in held.items() if isinstance(held, dict) else ():
                merged.setdefault(name, item)
        return merged

    def _paths(self, text: str, home: str) -> Iterator[str]:
        for each in filter(None, text.split(":")):
            path = posixpath.normpath(_AT_HOME.sub(home, each))
            if "$" in path or not path.startswith("/"):
                self.warnings.append(f"{NAME} names a file that only a shell can tell: {each}; it is not looked at")
            elif not path.startswith(f"{home}/"):
                self.warnings.append(f"{path}, which {NAME} names, is not below the home; it is not looked at")
            else:
                yield path.removeprefix(f"{home}/")


def _named(files: UserFiles, owner: Owner) -> Iterator[str]:
    for export in session_exports(owner.uid):
        if export.name == NAME and export.value:
            yield export.value
    for export in exports(files, (NAME,)):
        place, _, number = export.place.rpartition(":")
        content = files.read(place.removeprefix(owner.home.rstrip("/") + "/"))
        lines = [] if content is None else content.data.decode("utf-8", "replace").splitlines()
        found = _SET.search(lines[int(number) - 1]) if int(number) <= len(lines) else None
        if found is not None:
            yield found[1]
