"""What enrolling kubectl makes of a home: which users move, which stay and why, and the way back."""

import base64
import json

import pytest
import yaml

from agent_broker.errors import MisuseError
from agent_broker.honeytoken.keys import rsa_private_key
from agent_broker_shims.kubectl import authority_of
from tests.fakes.kube_world import AUTHORITY, SHIM, KubeWorld, cluster, kubeconfig

pytestmark = pytest.mark.kernel

TOKEN, OTHER = "token-of-alice-000000", "token-of-bob-11111111"


@pytest.fixture
def world():
    made = KubeWorld()
    yield made
    made.close()


def test_a_token_moves_and_its_user_asks_the_broker(world):
    world.write(kubeconfig({"alice": {"token": TOKEN}}, cluster("first")))
    before = world.snapshot()

    world.enroll()

    made = world.users()["alice"]["exec"]
    assert (made["command"], made["args"], made["provideClusterInfo"]) == (str(SHIM), ["kubectl", "alice"], True)
    assert set(world.users()["alice"]) == {"exec"}
    assert TOKEN not in (world.home / ".kube/config").read_text()
    kept = world.stored()["alice"]
    assert json.loads(kept.content) == {"token": TOKEN}
    assert kept.attributes == {
        "destination": "https://first.example:6443",
        "username": "alice",
        "ca_sha256": authority_of(AUTHORITY),
        "tls_server_name": "",
    }
    world.unenroll()
    assert world.snapshot() == before


def test_a_decoy_is_an_entry_that_nothing_uses_and_a_file_that_nothing_reads(world):
    world.make(world.home / ".kube/erin.token", f"{OTHER}\n")
    world.write(kubeconfig({"alice": {"token": TOKEN}, "erin": {"tokenFile": "erin.token"}}, cluster("first")))

    plan = world.plan()
    world.apply(plan)

    assert [(each.path, each.shared) for each in plan.decoys] == [
        (f"{world.home}/.kube/erin.token", False),
        (f"{world.home}/.kube/config", True),
    ]
    held = yaml.safe_load((world.home / ".kube/config").read_text())
    (decoy,) = set(world.users()) - {"alice", "erin"}
    assert set(world.users()[decoy]) == {"token"}
    (context,) = [each["context"] for each in held["contexts"] if each["name"] == decoy]
    assert context == {"cluster": decoy, "user": decoy}
    assert "current-context" not in held


@pytest.mark.parametrize("at_file", [False, True])
def test_a_certificate_and_its_key_move_together(world, at_file):
    certificate, key = "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n", rsa_private_key()
    world.make(world.home / ".kube/a.crt", certificate)
    world.make(world.home / ".kube/a.key", key)
    data = {f"client-{name}-data": base64.b64encode(text.encode()).decode() for name, text in
            (("certificate", certificate), ("key", key))}  # fmt: skip
    held = {"client-certificate": "a.crt", "client-key": "a.key"} if at_file else data
    world.write(kubeconfig({"alice": held}, cluster("first")))
    before = world.snapshot()

    world.enroll()

    assert json.loads(world.stored()["alice"].content) == {"clientCertificateData": certificate, "clientKeyData": key}
    assert set(world.users()["alice"]) == {"exec"}
    now = world.snapshot()[".kube/a.key"].data.decode()
    assert (now != key) == at_file
    assert now.startswith("-----BEGIN PRIVATE KEY-----")
    world.unenroll()
    assert world.snapshot() == before


def test_a_tokens_file_is_what_kubectl_would_use(world):
    world.make(world.home / ".kube/erin.token", f"{OTHER}\n")
    world.write(kubeconfig({"erin": {"token": TOKEN, "tokenFile": "erin.token"}}, cluster("first")))

    world.enroll()

    assert json.loads(world.stored()["erin"].content) == {"token": OTHER}
    assert OTHER not in (world.home / ".kube/erin.token").read_text()
    assert len((world.home / ".kube/erin.token").read_text()) == len(OTHER) + 1


def test_a_user_of_two_clusters_has_a_credential_for_each(world):
    contexts = [("alice", "first"), ("alice", "second")]
    world.write(kubeconfig({"alice": {"token": TOKEN}}, cluster("first"), cluster("second"), contexts=contexts))

    world.enroll()

    bound = {name: each.attributes["destination"] for name, each in world.stored().items()}
    assert bound == {"alice-first": "https://first.example:6443", "alice-second": "https://second.example:6443"}


def test_the_files_of_kubeconfig_are_merged_as_kubectl_does(world):
    world.make(world.home / ".profile", "export KUBECONFIG=$HOME/.kube/config:~/.kube/further:$OTHER/x\n")
    world.write(kubeconfig({"alice": {"token": TOKEN}}, cluster("first")))
    further = {**kubeconfig({"bob": {"token": OTHER}}, contexts=[("bob", "first")]), "clusters": []}
    world.write(further, ".kube/further")

    plan = world.plan()
    world.apply(plan)

    assert world.stored()["bob"].attributes["destination"] == "https://first.example:6443"
    assert set(world.users(".kube/further")["bob"]) == {"exec"}
    assert any("only a shell can tell: $OTHER/x" in each for each in plan.warnings)


STAYING = [
    ({"username": "a", "password": "b" * 9}, "a password can't be given"),
    ({"auth-provider": {"name": "oidc"}}, "renews its own login"),
    ({"exec": {"command": "aws"}}, "asks another program already"),
    ({"token": OTHER, "username": "a"}, "a password can't be given"),
    ({"tokenFile": "/etc/hostname"}, "is not below the home"),
    ({"tokenFile": "none"}, "there is nothing in"),
    ({"client-certificate-data": "Yg=="}, "a certificate without a key"),
    ({"client-certificate-data": "Yg==", "client-key-data": "Yg=="}, "has a passphrase, or is none"),
    ({"client-certificate-data": "%", "client-key-data": "%"}, "is not base64"),
    ({"token": 12345678}, "is not a string"),
]


def test_who_can_not_be_served_stays_and_the_plan_says_why(world):
    others = {f"user{number}": user for number, (user, _) in enumerate(STAYING)}
    world.write(kubeconfig({"alice": {"token": TOKEN}, **others}, cluster("first")))

    plan = world.plan()
    world.apply(plan)

    assert list(world.stored()) == ["alice"]
    for (name, user), (_, why) in zip(others.items(), STAYING, strict=True):
        assert world.users()[name] == user
        assert any(f"the user {name} stays as it is" in each and why in each for each in plan.warnings)


UNCERTAIN = [
    ({"insecure-skip-tls-verify": True}, "is not checked"),
    ({"server": "http://first.example"}, "is not at https://"),
    ({"server": "https://me@first.example"}, "can't be bound to"),
    ({"certificate-authority-data": "", "certificate-authority": "/etc/hostname"}, "is not below the home"),
    ({"certificate-authority-data": "%"}, "not base64"),
]


def test_a_cluster_that_is_not_certain_gets_no_credential(world):
    users = {f"user{number}": {"token": f"{TOKEN}{number}"} for number in range(len(UNCERTAIN))}
    clusters = [cluster(f"c{number}", **held) for number, (held, _) in enumerate(UNCERTAIN)]
    world.write(kubeconfig(users, *clusters, contexts=[(f"user{n}", f"c{n}") for n in range(len(UNCERTAIN))]))

    with pytest.raises(MisuseError) as caught:
        world.plan()

    for number, (_, why) in enumerate(UNCERTAIN):
        assert f"the user user{number} stays as it is: the cluster c{number} " in caught.value.message
        assert why in caught.value.message


def test_a_user_in_no_context_stays_if_there_are_several_clusters(world):
    world.write(kubeconfig({"alice": {"token": TOKEN}}, cluster("first"), cluster("second"), contexts=[]))

    with pytest.raises(MisuseError, match="no context says at which cluster"):
        world.plan()


def test_two_users_of_one_name_are_refused(world):
    world.make(world.home / ".kube/config", "users:\n- {name: a, user: {token: x}}\n- {name: a, user: {token: y}}\n")

    with pytest.raises(MisuseError, match="two of its users have one name"):
        world.plan()


def test_what_kubectl_writes_meanwhile_is_kept(world):
    """kubectl writes the whole file anew: sorted, and without our comments."""
    world.write(kubeconfig({"alice": {"token": TOKEN}}, cluster("first")))
    world.enroll()
    path = world.home / ".kube/config"
    held = yaml.safe_load(path.read_text())
    held["current-context"] = "alice@first"
    del next(each for each in held["users"] if each["name"] == "alice")["user"]["exec"]["interactiveMode"]
    world.make(path, yaml.safe_dump(held, sort_keys=True, indent=4))

    report = world.unenroll()

    now = yaml.safe_load(path.read_text())
    assert world.users() == {"alice": {"token": TOKEN}}
    assert now["current-context"] == "alice@first"
    assert [each["name"] for each in now["clusters"]] == ["first"]
    assert "your later changes kept" in str(report)
