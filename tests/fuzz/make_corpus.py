"""Writes the committed corpus anew: ``python -m tests.fuzz.make_corpus``, after a layout changed.

Inputs that a fuzz run found are added to the folders by hand, and stay.
"""

from agent_broker.kernel import wire
from agent_broker.ssh.messages import SESSION_BIND
from agent_broker.ssh.wire import number, string
from agent_broker.transport.frame import (
    FrameType,
    ShimAnswer,
    ShimRequest,
    encode_answer,
    encode_nonce,
    encode_request,
    encode_versions,
)
from tests.fakes.kernel import FakeKernel, a_file
from tests.fuzz.targets import CORPUS

GIT = ShimRequest("git", ("get",), b"protocol=https\nhost=example.com\n\n", (("HOME", "/home/ann"), ("LANG", "C")))
AGENT = a_file(42)


def frames() -> dict[str, bytes]:
    request = encode_request(GIT)
    return {
        "request": request,
        "request-without-anything": encode_request(ShimRequest("git")),
        "request-not-utf8": request.replace(b"get", b"\xff\xfe\xfd"),
        "request-variable-twice": request.replace(b"LANG", b"HOME"),
        "request-cut": request[:-3],
        "request-other-version": request[:4] + b"\x02" + request[5:],
        "request-length-too-large": request[:8] + b"\xff" + request[9:],
        "answer": bytes(encode_answer(ShimAnswer(1, b"username=x\npassword=y\n", b"denied\n"))),
        "answer-empty": bytes(encode_answer(ShimAnswer(0))),
        "versions": encode_versions(),
        "challenge": encode_nonce(FrameType.CHALLENGE, bytes(range(16))),
        "confirm": encode_nonce(FrameType.CONFIRM, b"\xaa" * 16),
        "values-of-a-request": b"\x01git\xffget\xffsecond\xffstdin\xffHOME=/\xffLANG=C",
        "nothing": b"",
    }


def events() -> dict[str, bytes]:
    kernel = FakeKernel()
    kernel.register(AGENT.dev, AGENT.ino)
    shell = kernel.boot(uid=1000)
    agent = kernel.run(shell, "/opt/claude", "claude", "-p", "x" * 300, file=AGENT, env={"LD_PRELOAD": "/x.so"})
    kernel.run(agent, "/bin/" + "n" * 300, "n", flags=wire.EXEC_TRACED | wire.EXEC_IS_SCRIPT)
    kernel.exit(agent)
    names = ["seed", "fork", "strings", "exec", "fork-2", "exec-long-names", "exit"]
    found = dict(zip(names, kernel.queue, strict=True))
    text = bytearray(found["exec"])
    text[124:130] = b"\x00\x01\x80\x00\x00\x01"  # names as long as there is room
    long_counts = bytearray(found["exec"])
    long_counts[124:130] = b"\xff" * 6
    return found | {
        "taint": wire.KIND_TAINT.to_bytes(4, "little") + bytes(range(4, 56)),
        "exec-full-names": bytes(text),
        "exec-names-longer-than-their-room": bytes(long_counts),
        "exec-cut": found["exec"][:-1],
        "strings-longer-than-a-piece": found["strings"][:36] + b"\x01\x10\0\0" + found["strings"][40:],
        "kind-of-nobody": b"\x63" + bytes(47),
        "three-bytes": b"\x01\0\0",
        "nothing": b"",
    }


def environments() -> dict[str, bytes]:
    many = b"\0".join(b"LD_%d=x" % number for number in range(80))
    texts = {
        "clean": b"HOME=/home/ann\0PATH=/usr/bin\0LANG=C.UTF-8\0",
        "preload": b"HOME=/\0LD_PRELOAD=/tmp/x.so\0",
        "bun": b"BUN_OPTIONS=--preload=/tmp/x.js\0",
        "node": b"NODE_OPTIONS=--require /tmp/x.js\0NODE_PATH=/tmp\0",
        "python-perl-ruby-java": b"PYTHONPATH=/x\0PERL5OPT=-Mx\0RUBYOPT=-rx\0JAVA_TOOL_OPTIONS=-agentpath:x\0",
        "git": b"GIT_SSH_COMMAND=/x\0GIT_ASKPASS=/x\0GIT_EXTERNAL_DIFF=/x\0",
        "shell-function": b"BASH_FUNC_ls%%=() { evil; }\0BASH_ENV=/x\0",
        "openssl": b"OPENSSL_CONF=/x\0OPENSSL_MODULES=/x\0GCONV_PATH=/x\0",
        "empty-value": b"LD_PRELOAD=\0",
        "without-equals": b"HOME=/\0LD_PRELOAD\0",
        "empty-name": b"=x\0==\0",
        "given-twice": b"LD_PRELOAD=a\0LD_PRELOAD=b\0",
        "not-utf8": b"LD_\xff=x\0\xfe\xfd=LD_PRELOAD=x\0",
        "too-many": many,
        "value-like-an-entry": b"X=LD_PRELOAD=/x.so\0",
    }
    return {name: b"claude\0-p\0hello\0\0" + text for name, text in texts.items()} | {
        "long-arguments": b"a" * 9000 + b"\0\0HOME=/",
        "nothing": b"",
    }


def ssh_agent() -> dict[str, bytes]:
    key = string(b"ssh-ed25519") + string(bytes(range(32)))
    login = string(b"s" * 32) + bytes((50,)) + string(b"me") + string(b"ssh-connection")
    plain = login + string(b"publickey") + b"\1" + string(b"ssh-ed25519") + string(key)
    bound = login + string(b"publickey-hostbound-v00@openssh.com") + b"\1" + string(b"ssh-ed25519") + string(key) * 2
    file = b"SSHSIG" + string(b"git") + string(b"") + string(b"sha512") + string(b"h" * 64)
    bind = string(SESSION_BIND.encode()) + string(key) + string(b"s" * 32) + string(string(b"ssh-ed25519") * 2)
    requests = {"plain-login": plain, "bound-login": bound, "file": file, "certificate": key * 3}
    return {f"sign-{name}": b"\x0d" + string(key) + string(data) + number(0) for name, data in requests.items()} | {
        "list": b"\x0b",
        "list-with-more": b"\x0b\0",
        "bind": b"\x1b" + bind + b"\0",
        "bind-forwarding": b"\x1b" + bind + b"\1",
        "bind-cut": b"\x1b" + bind,
        "other-extension": b"\x1b" + string(b"query"),
        "add-key": b"\x11" + string(b"ssh-ed25519") + string(bytes(32)) + string(bytes(64)) + string(b"me"),
        "string-longer-than-the-message": b"\x0d\xff\xff\xff\xff",
        "lock": b"\x16" + string(b"x"),
        "nothing": b"",
    }


def main() -> None:
    corpora = {"frame": frames(), "events": events(), "environment": environments(), "ssh_agent": ssh_agent()}
    for name, inputs in corpora.items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for each, data in inputs.items():
            (folder / each).write_bytes(data)


if __name__ == "__main__":
    main()
