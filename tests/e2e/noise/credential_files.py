"""The credential files of a developer's home, each right for its own program; every value is made up."""

import subprocess
from pathlib import Path

_FILES = {
    ".aws/credentials": "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = made-up\n",
    ".aws/config": "[default]\nregion = eu-central-1\n",
    ".docker/config.json": '{"auths": {"registry.example.org": {"auth": "YW5uOm1hZGUtdXA="}}}\n',
    ".git-credentials": "https://ann:made-up@git.example.org\n",
    ".kube/config": (
        "apiVersion: v1\nkind: Config\ncurrent-context: example\n"
        "clusters: [{name: example, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        "users: [{name: ann, user: {token: made-up}}]\n"
        "contexts: [{name: example, context: {cluster: example, user: ann}}]\n"
    ),
    ".netrc": "machine git.example.org login ann password made-up\n",
    ".npmrc": "//registry.example.org/:_authToken=made-up\n",
    "project/.env": "API_TOKEN=made-up\n",
}


def write_credential_files(home: Path) -> None:
    """Write them; the caller gives them to the user."""
    for name, content in _FILES.items():
        path = home / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        path.chmod(0o600)
    folder = home / ".ssh"
    folder.mkdir(mode=0o700)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann", "-f", folder / "id_ed25519"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
