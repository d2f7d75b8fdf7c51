"""What each row of the table claims, as a command that runs foreign code with the variable and none without it.

``{d}`` is the folder of stage.build, ``{node}`` a Node runtime.
"""

import shutil
from dataclasses import dataclass, field

from tests.e2e.environment.stage import SYSTEM_LOADER, SYSTEM_PYTHON


@dataclass(frozen=True)
class Claim:
    """One run."""

    runtime: str
    variable: str
    value: str
    command: tuple[str, ...]
    base: dict[str, str] = field(default_factory=dict)
    """Set in both runs."""
    shows: str = "FOREIGN"
    stdin: str = ""
    as_root: bool = True

    @property
    def name(self) -> str:
        return f"{self.runtime}-{self.variable}-{self.command[0].rpartition('/')[2]}"


def _python(code: str) -> tuple[str, ...]:
    return (SYSTEM_PYTHON, "-c", code)


def _libcrypto(call: str) -> tuple[str, ...]:
    return _python(f"import ctypes; ctypes.CDLL('libcrypto.so.3').{call}")


LOADER = [
    Claim("loader", "LD_PRELOAD", "{d}/foreign.so", ("/bin/true",)),
    Claim("loader", "LD_AUDIT", "{d}/foreign.so", ("/bin/true",)),
    Claim("loader", "LD_LIBRARY_PATH", "{d}/libraries", ("{d}/linked",)),
    Claim(
        "loader", "GLIBC_TUNABLES", "glibc.rtld.nns=7",
        (SYSTEM_LOADER, "--list-tunables"), shows="glibc.rtld.nns: 0x7",
    ),
    Claim("loader", "GCONV_PATH", "{d}/gconv", ("iconv", "-f", "FOREIGN", "-t", "UTF-8"), stdin="x"),
    Claim("loader", "LOCPATH", "{d}/locales", ("locale", "charmap"), {"LC_ALL": "foreign"}, shows="UTF-8"),
    Claim("loader", "NLSPATH", "{d}/%N.cat", ("{d}/catalogue",)),
    Claim("loader", "RESOLV_HOST_CONF", "{d}/host.conf", ("getent", "hosts", "localhost")),
    Claim(
        "loader", "HOSTALIASES", "{d}/aliases",
        _python("import ctypes; f = ctypes.CDLL('libresolv.so.2').__hostalias; f.restype = ctypes.c_char_p; "
                "print(f(b'alias'))"),
    ),
    Claim("loader", "TZDIR", "{d}/zones", ("date", "+%Z"), {"TZ": "Nowhere"}),
    Claim("loader", "OPENSSL_CONF", "{d}/provider.cnf", _libcrypto("OPENSSL_init_crypto(0x40, None)")),
    Claim("loader", "OPENSSL_MODULES", "{d}", _libcrypto("OSSL_PROVIDER_load(None, b'foreign')")),
    Claim("loader", "OPENSSL_ENGINES", "{d}", _libcrypto("ENGINE_by_id(b'foreign')")),
]  # fmt: skip

NODE = [
    Claim("node", "NODE_OPTIONS", "--require={d}/foreign.js", ("{node}", "-e", "0")),
    Claim("node", "NODE_PATH", "{d}/node", ("{node}", "{d}/tries-foreign.js")),
    Claim("node", "NODE_REPL_EXTERNAL_MODULE", "{d}/foreign.js", ("{node}", "-i")),
    Claim("node", "NODE_PRESERVE_SYMLINKS_MAIN", "1", ("{node}", "{d}/linked-script/main.js")),
    Claim("node", "NODE_PRESERVE_SYMLINKS", "1", ("{node}", "{d}/through-link/main.js")),
    Claim("node", "OPENSSL_CONF", "{d}/provider.cnf", ("{node}", "-e", "0")),
    Claim("node", "OPENSSL_MODULES", "{d}", ("{node}", "-e", "0"), {"OPENSSL_CONF": "{d}/by-name.cnf"}),
    Claim("node", "OPENSSL_ENGINES", "{d}", ("{node}", "-e", "try { crypto.setEngine('foreign') } catch {}")),
]
NEWER_NODE = [Claim("node", "NODE_COMPILE_CACHE", "{d}/compiled/cache", ("{node}", "{d}/compiled/main.js"))]

PYTHON = [
    Claim("python", "PYTHONPATH", "{d}/python", _python("0")),
    Claim("python", "PYTHONHOME", "{d}/python-home", _python("0")),
    Claim("python", "PYTHONUSERBASE", "{d}/python-base", _python("0")),
    Claim("python", "PYTHONSTARTUP", "{d}/python/foreign.py", (SYSTEM_PYTHON, "-i")),
    Claim("python", "PYTHONWARNINGS", "ignore::foreign.W", _python("0"), {"PYTHONPATH": "{d}/warned"}),
    Claim("python", "PYTHONBREAKPOINT", "os.system", _python("breakpoint('echo FOR''EIGN')")),
    Claim(
        "python", "PYTHONPYCACHEPREFIX", "{d}/pycache",
        _python("import sys; sys.path.insert(0, '{d}/modules'); import own"),
    ),
]  # fmt: skip

PERL = [
    Claim("perl", "PERL5OPT", "-I{d}/perl -MForeign", ("perl", "-e", "0")),
    Claim("perl", "PERL5LIB", "{d}/perl", ("perl", "-Mstrict", "-e", "0")),
    Claim("perl", "PERLLIB", "{d}/perl", ("perl", "-Mstrict", "-e", "0")),
    Claim("perl", "PERL5DB", 'BEGIN {{ print STDERR "FOREIGN\\n" }}', ("perl", "-d", "-e", "0")),
]

SHELL = [
    Claim("shell", "BASH_ENV", "{d}/start.sh", ("bash", "-c", ":")),
    Claim("shell", "ENV", "{d}/start.sh", ("sh", "-i"), stdin=":\n"),
    Claim("shell", "BASH_FUNC_ls%%", "() {{ echo FOREIGN; }}", ("bash", "-c", "ls /")),
    Claim("shell", "PS4", "$(cat {d}/start.sh)", ("bash", "-c", ":"), {"SHELLOPTS": "xtrace"}, as_root=False),
    Claim("shell", "SHELLOPTS", "xtrace", ("bash", "-c", ":"), {"PS4": "$(cat {d}/start.sh)"}, as_root=False),
    Claim("shell", "PROMPT_COMMAND", "cat {d}/start.sh", ("bash", "--norc", "-i")),
    Claim("shell", "BASH_LOADABLES_PATH", "{d}/libraries", ("bash", "-c", "enable -f libdep.so x")),
]

_GIT = ("git", "-C", "{d}/repository")
_REMOTE = ("git", "ls-remote")
_ON_TERMINAL = ("script", "-qec", "git -C {d}/repository log", "/dev/null")
GIT = [
    Claim("git", "GIT_SSH", "{d}/foreign.sh", (*_REMOTE, "ssh://localhost/x")),
    Claim("git", "GIT_SSH_COMMAND", "{d}/foreign.sh", (*_REMOTE, "ssh://localhost/x")),
    Claim("git", "GIT_PROXY_COMMAND", "{d}/foreign.sh", (*_REMOTE, "git://localhost:1/x")),
    Claim("git", "GIT_EXTERNAL_DIFF", "{d}/foreign.sh", (*_GIT, "diff")),
    Claim("git", "GIT_ASKPASS", "{d}/foreign.sh", ("git", "credential", "fill"), stdin="url=https://u@localhost\n\n"),
    Claim("git", "SSH_ASKPASS", "{d}/foreign.sh", ("git", "credential", "fill"), stdin="url=https://u@localhost\n\n"),
    Claim("git", "GIT_PAGER", "{d}/foreign.sh", _ON_TERMINAL, {"PAGER": "cat", "TERM": "dumb"}),
    Claim("git", "GIT_EDITOR", "{d}/foreign.sh", (*_GIT, "commit", "--allow-empty")),
    Claim("git", "GIT_SEQUENCE_EDITOR", "{d}/foreign.sh", (*_GIT, "rebase", "--autostash", "-i", "--root")),
    Claim("git", "GIT_EXEC_PATH", "{d}/git-programs", ("git", "foreign")),
    Claim("git", "GIT_CONFIG_GLOBAL", "{d}/git-config", ("git", "foreign")),
    Claim("git", "GIT_CONFIG_SYSTEM", "{d}/git-config", ("git", "foreign")),
    Claim("git", "GIT_CONFIG_PARAMETERS", "'alias.foreign=!{d}/foreign.sh'", ("git", "foreign")),
    Claim(
        "git", "GIT_CONFIG_COUNT", "1", ("git", "foreign"),
        {"GIT_CONFIG_KEY_0": "alias.foreign", "GIT_CONFIG_VALUE_0": "!{d}/foreign.sh"},
    ),
    Claim("git", "GIT_TEMPLATE_DIR", "{d}/git-template", ("git", "clone", "-q", "{d}/repository", "{d}/clone")),
    Claim("git", "GIT_DIR", "{d}/other/.git", (*_GIT, "commit", "--allow-empty", "-m", "x")),
]  # fmt: skip

JAVA = [
    Claim("java", variable, "-agentpath:{d}/foreign.so", ("java", "-version"))
    for variable in ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS")
    if shutil.which("java")
]

DOCUMENTED = {
    "NIX_LD*": "nix-ld is not on this machine",
    "GETCONF_DIR": "getconf(1) executes it for programming environments that this machine does not have",
    "LOCALDOMAIN": "resolv.conf(5)",
    "NIS_PATH": "in ld.so's list of variables that untrusted callers may not set",
    "RES_OPTIONS": "resolv.conf(5)",
    "MALLOC_TRACE": "mtrace(3)",
    "OPENSSL_CONF_INCLUDE": "config(5ssl)",
    "ZDOTDIR": "zsh(1)",
    "FPATH": "zsh(1)",
    "BASHOPTS": "bash(1)",
    "GIT_COMMON_DIR": "git(1)",
    **dict.fromkeys(("GIT_SSL_*", "GIT_PROXY_SSL_*", "GIT_TRACE*", "GIT_CURL_VERBOSE"), "git(1)"),
    **dict.fromkeys(("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "SSLKEYLOGFILE"), "curl(1)"),
    **dict.fromkeys(("GODEBUG",), "crypto/x509"),
    **dict.fromkeys(("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH"), "docker(1)"),
    **dict.fromkeys(("DOCKER_TLS*", "DOCKER_API_VERSION"), "docker(1)"),
    **dict.fromkeys(("CARGO_HTTP_*", "CARGO_NET_*", "CARGO_REGISTR*", "CARGO_CREDENTIAL_ALIAS_*"), "the Cargo Book"),
    **dict.fromkeys(("CARGO_SOURCE_*", "CARGO_ALIAS_*", "CARGO_HOME"), "the Cargo Book"),
    **dict.fromkeys(("PIP_CERT", "PIP_CLIENT_CERT", "PIP_CONFIG_FILE", "PIP_LOG", "PIP_PROXY"), "pip's Configuration"),
    **dict.fromkeys(("PIP_PYTHON", "PIP_TRUSTED_HOST"), "pip's Configuration"),
    **dict.fromkeys(("TWINE_CERT", "TWINE_CLIENT_CERT"), "twine upload --help"),
    **dict.fromkeys(("UV_CONFIG_FILE", "UV_INSECURE_HOST"), "uv's Environment variables"),
    **dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_*"), "requests, Advanced usage"),
    **dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_DATA_PATH", "BOTO_CONFIG"), "boto3"),
    **dict.fromkeys(("AWS_ENDPOINT_URL*", "AWS_CA_BUNDLE"), "AWS SDKs and Tools Reference"),
    **dict.fromkeys(("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "CLOUDSDK_*"), "google-auth"),
    **dict.fromkeys(("*_EMULATOR_HOST", "GOOGLE_*_CUSTOM_ENDPOINT"), "Google's client libraries"),
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "gRPC environment variables",
    **dict.fromkeys(("GH_CONFIG_DIR", "XDG_CONFIG_HOME"), "gh help environment"),
    **dict.fromkeys(("NPM_CONFIG_*", "npm_config_*", "PNPM_CONFIG_*", "pnpm_config_*", "PREFIX"), "pnpm, Settings"),
    "NODE_EXTRA_CA_CERTS": "node(1)",
    "OPENJ9_JAVA_OPTIONS": "another Java runtime",
    "IBM_JAVA_OPTIONS": "another Java runtime",
    "CLASSPATH": "java(1)",
}
"""Patterns that no claim runs, and why."""
NO_INTERPRETER = {"electron", "ruby", "dotnet", "php", "lua", "r", "erlang", "tcl", "desktop", "sasl"}
"""Runtimes that the test machine does not have: their manuals say it."""
