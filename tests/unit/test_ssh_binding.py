"""What may be signed on a connection: each rule of session binding, with real keys."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent_broker.errors import RefusedError
from agent_broker.ssh.binding import MAX_BINDINGS, Bindings, Destination, Limits, fingerprint
from agent_broker.ssh.keys import public_blob, sign
from agent_broker.ssh.messages import RSA_SHA2_256, RSA_SHA2_512, Bind
from agent_broker.ssh.signed_data import FileSignature, Login
from agent_broker.ssh.wire import string

HOST, OTHER = Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())
SESSION, OTHER_SESSION = b"s" * 32, b"t" * 32
KEY = b"the public key's blob"
ANY = Limits()


def bind(host=HOST, session=SESSION, *, forwarding=False, signer=None, flags=RSA_SHA2_512):
    return Bind(public_blob(host), session, sign(signer or host, session, flags), forwarding)


def login(session=SESSION, *, user="me", key=KEY, host=HOST):
    return Login(session, user, string(b"ssh-ed25519") + key, public_blob(host) if host else None)


def bound(*binds):
    bindings = Bindings()
    for each in binds or (bind(),):
        bindings.add(each)
    return bindings


def rule_of(bindings, wanted, limits=ANY):
    refusal = bindings.refusal_of(wanted, string(b"ssh-ed25519") + KEY, limits)
    return refusal and refusal.rule


def test_a_login_to_the_host_that_proved_its_session_is_signed():
    assert rule_of(bound(), login()) is None
    assert rule_of(bound(), login(host=None)) is None  # a client without publickey-hostbound


@pytest.mark.parametrize(
    "host", [OTHER, rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())]
)
@pytest.mark.parametrize("flags", [RSA_SHA2_256, RSA_SHA2_512])
def test_hosts_prove_themselves_with_every_kind_of_key(host, flags):
    assert rule_of(bound(bind(host, flags=flags)), login(host=host)) is None


@pytest.mark.parametrize(
    "wanted",
    [
        login(OTHER_SESSION),
        login(host=OTHER),
        login(key=b"another key's"),
    ],
)
def test_a_login_that_is_not_the_bound_one_is_refused(wanted):
    assert rule_of(bound(), wanted) == "destination"


def test_a_login_without_a_binding_needs_the_keys_opt_out():
    assert rule_of(Bindings(), login()) == "destination"
    assert rule_of(Bindings(), login(), Limits(needs_binding=False)) is None


def test_the_opt_out_does_not_open_a_key_that_has_destinations():
    limits = Limits((Destination("good", (fingerprint(public_blob(HOST)),)),), needs_binding=False)
    assert rule_of(Bindings(), login(), limits) == "destination"


@pytest.mark.parametrize("limits", [ANY, Limits(needs_binding=False)])
def test_what_comes_by_forwarding_is_refused_with_the_opt_out_too(limits):
    bindings = bound(bind(forwarding=True), bind(OTHER, OTHER_SESSION))
    assert rule_of(bindings, login(OTHER_SESSION, host=OTHER), limits) == "forwarded"
    assert rule_of(bindings, FileSignature("git"), limits) == "forwarded"


def test_a_key_that_allows_forwarding_is_for_the_last_host_only():
    allowed = Limits(allows_forwarding=True)
    bindings = bound(bind(forwarding=True), bind(OTHER, OTHER_SESSION))
    assert rule_of(bindings, login(OTHER_SESSION, host=OTHER), allowed) is None
    assert rule_of(bindings, login(OTHER_SESSION, host=None), allowed) == "destination"
    assert rule_of(bindings, login(), allowed) == "destination"
    assert rule_of(bound(bind(forwarding=True)), login(), allowed) == "destination"


@pytest.mark.parametrize(
    "wrong",
    [
        bind(signer=OTHER),
        Bind(public_blob(HOST), SESSION, sign(HOST, OTHER_SESSION, 0), is_forwarding=False),
        Bind(b"no key", SESSION, b"", is_forwarding=False),
        Bind(string(b"ssh-ed25519-cert-v01@openssh.com") + KEY, SESSION, b"", is_forwarding=False),
    ],
)
def test_a_binding_that_the_host_did_not_sign_spoils_the_connection(wrong):
    bindings = Bindings()
    with pytest.raises(RefusedError):
        bindings.add(wrong)
    for wanted in (login(), FileSignature("git")):
        assert rule_of(bindings, wanted, Limits(needs_binding=False)) == "destination"
    bindings.add(bind())
    assert rule_of(bindings, login()) == "destination"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (bind(), bind(session=OTHER_SESSION)),
        (bind(), bind(OTHER, OTHER_SESSION)),
        (bind(), bind(forwarding=True)),
        (bind(forwarding=True), bind()),
        (bind(forwarding=True), bind(OTHER)),
    ],
)
def test_a_second_binding_that_does_not_follow_from_the_first_is_refused(first, second):
    bindings = bound(first)
    with pytest.raises(RefusedError):
        bindings.add(second)


def test_the_same_binding_twice_is_one():
    assert rule_of(bound(bind(), bind()), login()) is None


def test_there_is_an_end_to_the_hops():
    bindings = bound(*(bind(session=bytes((number,)) * 32, forwarding=True) for number in range(MAX_BINDINGS)))
    with pytest.raises(RefusedError):
        bindings.add(bind(session=b"z" * 32, forwarding=True))


@pytest.mark.parametrize(
    ("host", "user", "expected"),
    [(HOST, "me", None), (HOST, "you", "destination"), (OTHER, "me", "destination")],
)
def test_a_key_with_destinations_is_for_these_hosts_and_users(host, user, expected):
    limits = Limits((Destination("good", ("SHA256:x", fingerprint(public_blob(HOST))), "me"),))
    assert rule_of(bound(bind(host)), login(user=user, host=host), limits) == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (ANY, None),
        (Limits(namespaces=("git",)), None),
        (Limits(namespaces=("file",)), "namespace"),
        (Limits((Destination("good", ("SHA256:x",)),)), "namespace"),
        (Limits((Destination("good", ("SHA256:x",)),), namespaces=("git",)), None),
    ],
)
def test_files_are_signed_for_the_namespaces_that_the_key_is_for(limits, expected):
    assert rule_of(Bindings(), FileSignature("git"), limits) == expected


def test_a_login_with_a_certificate_of_the_key_is_the_keys():
    certificate = string(b"ssh-ed25519-cert-v01@openssh.com") + string(b"nonce") + string(KEY) + b"the rest"
    wanted = Login(SESSION, "me", certificate, public_blob(HOST))
    assert bound().refusal_of(wanted, string(b"ssh-ed25519") + string(KEY), ANY) is None
    assert bound().refusal_of(wanted, string(b"ssh-ed25519") + string(b"other"), ANY).rule == "destination"
