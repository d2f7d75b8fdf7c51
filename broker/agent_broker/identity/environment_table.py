"""The table of variables that make a genuine binary run foreign code, a row a family; docs/environment.md prints it.

A row is here if the variable makes its reader load code, look for code elsewhere, or read a configuration that
names code. What only redirects data, trust or traffic, or names a program that becomes a process of its own, is not:
``LEFT_OUT`` says why. Where a vendor owns a whole prefix, the row is the prefix without its harmless names, so that
a variable of the next version counts before we know it.
"""

import re
from functools import cached_property

from msgspec import Struct

LOADER = "loader"
"""Every dynamically linked program, whatever it is written in."""


class Family(Struct, frozen=True, dict=True):
    """One row of the table."""

    runtime: str
    """Who reads the variable; a role lists the runtimes of its agent (registry.RoleRule)."""
    patterns: tuple[str, ...]
    """Names; a ``*`` stands for any text."""
    why: str
    """What its reader does with it, for people: read after "NAME: "."""
    harmless: tuple[str, ...] = ()
    """Names that match a pattern and load nothing."""

    @cached_property
    def names(self) -> str:
        """A regular expression that matches the whole of each name of the row."""
        wanted = "|".join("(?s:.*)".join(map(re.escape, pattern.split("*"))) for pattern in self.patterns)
        spared = "|".join(map(re.escape, self.harmless))
        return rf"(?!(?:{spared})\Z)(?:{wanted})" if spared else f"(?:{wanted})"


_NODE_MODULES = "the resolver takes modules from these folders"
_OPENSSL = "OpenSSL loads the providers and engines that it names (openssl-env(7))"

FAMILIES = (
    Family(LOADER, ("LD_*",), "the dynamic loader loads or redirects libraries (ld.so(8))"),
    Family(LOADER, ("NIX_LD*",), "nix-ld, where it is the loader, starts another one, with other libraries"),
    Family(LOADER, ("GLIBC_TUNABLES",), "glibc changes the behaviour of its loader and allocator (ld.so(8))"),
    Family(LOADER, ("GCONV_PATH",), "glibc loads character set modules from there (iconv(3))"),
    Family(LOADER, ("LOCPATH", "NLSPATH"), "glibc takes locales and messages, format strings too, from there"),
    Family(LOADER, ("GETCONF_DIR",), "getconf(1) executes the programs there"),
    Family(
        LOADER,
        ("HOSTALIASES", "LOCALDOMAIN", "NIS_PATH", "RES_OPTIONS", "RESOLV_HOST_CONF"),
        "glibc finds other hosts for the same names; ld.so drops it for untrusted callers",
    ),
    Family(
        LOADER,
        ("MALLOC_TRACE", "TZDIR"),
        "glibc opens files of its choice; ld.so drops it for untrusted callers",
    ),
    Family(LOADER, ("OPENSSL_CONF", "OPENSSL_CONF_INCLUDE", "OPENSSL_MODULES", "OPENSSL_ENGINES"), _OPENSSL),
    Family(
        "bun",
        ("BUN_*",),
        "the Bun runtime preloads scripts, opens a debugger, or becomes another program",
        harmless=("BUN_INSTALL",),
    ),
    Family("bun", ("NODE_PATH",), _NODE_MODULES),
    Family("node", ("NODE_OPTIONS",), "the Node runtime preloads modules and takes other options (node(1))"),
    Family("node", ("NODE_PATH",), _NODE_MODULES),
    Family("node", ("NODE_REPL_EXTERNAL_MODULE",), "the Node runtime loads this module instead of its prompt"),
    Family(
        "node",
        ("NODE_COMPILE_CACHE",),
        "the Node runtime runs compiled code from there in place of the script's",
    ),
    Family(
        "node",
        ("NODE_PRESERVE_SYMLINKS", "NODE_PRESERVE_SYMLINKS_MAIN"),
        "the Node runtime looks for modules beside a link to the script, not beside the script",
    ),
    Family("node", ("OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES"), _OPENSSL),
    Family(
        "electron",
        ("ELECTRON_RUN_AS_NODE", "ELECTRON_OVERRIDE_DIST_PATH", "CHROME_DEVEL_SANDBOX", "NODE_OPTIONS"),
        "an Electron program runs other code",
    ),
    Family(
        "python",
        ("PYTHON*",),
        "the Python runtime finds modules elsewhere or runs code at its start (python(1))",
        harmless=(
            "PYTHONASYNCIODEBUG",
            "PYTHONCOERCECLOCALE",
            "PYTHONDONTWRITEBYTECODE",
            "PYTHONFAULTHANDLER",
            "PYTHONHASHSEED",
            "PYTHONIOENCODING",
            "PYTHONNOUSERSITE",
            "PYTHONOPTIMIZE",
            "PYTHONSAFEPATH",
            "PYTHONUNBUFFERED",
            "PYTHONUTF8",
            "PYTHONVERBOSE",
        ),
    ),
    Family(
        "perl", ("PERL5OPT", "PERL5LIB", "PERLLIB", "PERL5DB"), "the Perl runtime loads modules or code (perlrun(1))"
    ),
    Family("ruby", ("RUBYOPT", "RUBYLIB", "RUBYPATH"), "the Ruby runtime loads code or finds it elsewhere (ruby(1))"),
    Family(
        "ruby",
        ("GEM_PATH", "GEM_HOME", "RUBYGEMS_GEMDEPS", "BUNDLE_GEMFILE", "BUNDLER_SETUP"),
        "the Ruby runtime takes its libraries from other folders",
    ),
    Family(
        "java",
        ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "OPENJ9_JAVA_OPTIONS", "IBM_JAVA_OPTIONS"),
        "the Java runtime loads agents and takes other options (java(1))",
    ),
    Family("java", ("CLASSPATH",), "the Java runtime takes classes from there"),
    Family(
        "dotnet",
        ("DOTNET_STARTUP_HOOKS", "DOTNET_ADDITIONAL_DEPS", "DOTNET_SHARED_STORE", "DOTNET_GCName", "DOTNET_GCPath"),
        "the .NET runtime loads other assemblies or libraries",
    ),
    Family("dotnet", ("DOTNET_ROOT*",), "a .NET program runs on another runtime"),
    Family("dotnet", ("CORECLR_*", "COR_*", "COMPlus_*"), "the .NET runtime loads a profiler or takes other options"),
    Family("php", ("PHPRC", "PHP_INI_SCAN_DIR"), "the PHP runtime reads a php.ini that names extensions and code"),
    Family("lua", ("LUA_INIT*",), "the Lua runtime runs code at its start (lua(1))"),
    Family("lua", ("LUA_PATH*", "LUA_CPATH*"), "the Lua runtime finds modules elsewhere (lua(1))"),
    Family(
        "r",
        ("R_PROFILE", "R_PROFILE_USER", "R_ENVIRON", "R_ENVIRON_USER", "R_HOME", "R_LIBS*", "R_DEFAULT_PACKAGES"),
        "the R runtime runs a profile or loads other packages (Startup in R)",
    ),
    Family(
        "erlang",
        ("ERL_AFLAGS", "ERL_FLAGS", "ERL_ZFLAGS", "ERL_OTP*_FLAGS", "ELIXIR_ERL_OPTIONS"),
        "the Erlang runtime takes options, code to run among them (erl(1))",
    ),
    Family("erlang", ("ERL_LIBS", "ERL_ROOTDIR", "ERL_INETRC"), "the Erlang runtime finds modules elsewhere (erl(1))"),
    Family("tcl", ("TCLLIBPATH", "TCL_LIBRARY"), "the Tcl runtime finds packages elsewhere (tclsh(1))"),
    Family("shell", ("BASH_ENV", "ENV", "ZDOTDIR"), "a shell runs a file at its start (bash(1), sh(1), zsh(1))"),
    Family("shell", ("BASH_FUNC_*",), "bash takes functions from it, in place of commands"),
    Family(
        "shell",
        ("SHELLOPTS", "BASHOPTS", "PS4", "PROMPT_COMMAND"),
        "bash runs commands in its trace or at its prompt (bash(1))",
    ),
    Family("shell", ("FPATH", "BASH_LOADABLES_PATH"), "a shell finds functions and built-ins elsewhere"),
    Family(
        "git",
        ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_PROXY_COMMAND", "GIT_ASKPASS", "SSH_ASKPASS", "GIT_EXTERNAL_DIFF"),
        "git runs it (git(1))",
    ),
    Family("git", ("GIT_PAGER", "GIT_EDITOR", "GIT_SEQUENCE_EDITOR"), "git runs it (git-var(1))"),
    Family("git", ("GIT_EXEC_PATH",), "git takes its own programs from there (git(1))"),
    Family("git", ("GIT_CONFIG*",), "git reads a configuration that names programs to run (git-config(1))"),
    Family("git", ("GIT_TEMPLATE_DIR",), "git copies hooks from there (git-init(1))"),
    Family("git", ("GIT_DIR", "GIT_COMMON_DIR"), "git uses the configuration and hooks of another repository"),
    Family(
        "cargo",
        ("CARGO_HTTP_*", "CARGO_NET_*", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "SSLKEYLOGFILE"),
        "cargo gives its token to another server that this makes it believe, or writes it down (the Cargo Book)",
    ),
    Family(
        "cargo",
        ("CARGO_REGISTR*", "CARGO_CREDENTIAL_ALIAS_*", "CARGO_SOURCE_*", "CARGO_ALIAS_*"),
        "cargo takes registries, or who is asked for their tokens, from whoever started it",
    ),
    Family("cargo", ("CARGO_HOME",), "cargo reads another configuration"),
    Family(
        "git-http",
        ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_PROXY_COMMAND", "GIT_EXEC_PATH", "GIT_CONFIG*", "GIT_TEMPLATE_DIR"),
        "git runs other programs, or takes its configuration from whoever started it (git(1))",
    ),
    Family(
        "git-http",
        ("GIT_SSL_*", "GIT_PROXY_SSL_*", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE"),
        "git gives its password to another server that this makes it believe (git(1), curl(1))",
    ),
    Family(
        "git-http",
        ("GIT_TRACE*", "GIT_CURL_VERBOSE", "SSLKEYLOGFILE"),
        "git, or its TLS library, writes down what it sends, or how to read it (git(1), curl(1))",
    ),
    Family(
        "go-tls",
        ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "GODEBUG"),
        "a program in Go believes another server, or takes weaker ciphers (crypto/x509, crypto/tls)",
    ),
    Family(
        "index",
        (
            "CURL_CA_BUNDLE",
            "PIP_CERT",
            "PIP_CLIENT_CERT",
            "PIP_CONFIG_FILE",
            "PIP_LOG",
            "PIP_PROXY",
            "PIP_PYTHON",
            "PIP_TRUSTED_HOST",
            "REQUESTS_CA_BUNDLE",
            "SSLKEYLOGFILE",
            "SSL_CERT_DIR",
            "SSL_CERT_FILE",
            "TWINE_CERT",
            "TWINE_CLIENT_CERT",
            "UV_CONFIG_FILE",
            "UV_INSECURE_HOST",
        ),
        "a client of package indexes believes another server, or takes its settings from whoever started it",
    ),
    Family(
        "docker",
        ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS*", "DOCKER_API_VERSION"),
        "docker gives a registry's password to another engine, or takes its settings from elsewhere (docker(1))",
    ),
    Family(
        "gh",
        ("GH_CONFIG_DIR", "XDG_CONFIG_HOME"),
        "gh reads other settings, which can name another place for what it sends (gh help environment)",
    ),
    Family(
        "pnpm",
        ("NPM_CONFIG_*", "npm_config_*", "PNPM_CONFIG_*", "pnpm_config_*", "XDG_CONFIG_HOME", "PREFIX"),
        "pnpm takes its settings, and whom it gives a token, from whoever started it (pnpm, Settings)",
    ),
    Family(
        "pnpm",
        ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"),
        "pnpm gives its token to another server that this makes it believe, or writes it down (node(1))",
    ),
    Family(
        "aws",
        ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_DATA_PATH", "BOTO_CONFIG"),
        "AWS's tools take their profiles, plug-ins or the servers' descriptions from there (boto3, Configuration)",
    ),
    Family(
        "aws",
        ("AWS_ENDPOINT_URL*", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_*", "SSLKEYLOGFILE"),
        "AWS's tools talk to another server, believe it, or write down how to read what they send (SDK reference)",
    ),
    Family(
        "google",
        ("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "CLOUDSDK_*", "*_EMULATOR_HOST", "GOOGLE_*_CUSTOM_ENDPOINT"),
        "Google's libraries send their token to another server, or take their settings from elsewhere (google-auth)",
    ),
    Family(
        "google",
        ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_*", "SSLKEYLOGFILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
        "Google's libraries believe another server, or write down how to read what they send (requests, gRPC)",
    ),
    Family(
        "tls",
        ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_*", "SSLKEYLOGFILE"),
        "a program in Python, or curl, believes another server, or writes down how to read what it sends (requests, "
        "curl(1))",
    ),
    Family(
        "desktop",
        ("GTK_MODULES", "GTK3_MODULES", "GTK_PATH", "GTK_EXE_PREFIX", "GTK_IM_MODULE_FILE", "GDK_PIXBUF_MODULE*"),
        "GTK loads plug-ins",
    ),
    Family("desktop", ("GIO_EXTRA_MODULES", "GIO_MODULE_DIR", "GST_PLUGIN*"), "GLib or GStreamer loads plug-ins"),
    Family("desktop", ("QT_PLUGIN_PATH", "QT_QPA_*", "QML_IMPORT_PATH", "QML2_IMPORT_PATH"), "Qt loads plug-ins"),
    Family(
        "desktop",
        ("LIBGL_DRIVERS_PATH", "GBM_BACKENDS_PATH", "__EGL_VENDOR_LIBRARY_*", "OCL_ICD_*", "OPENCL_VENDOR_PATH"),
        "OpenGL, EGL or OpenCL loads drivers",
    ),
    Family("desktop", ("VK_*", "LIBVA_DRIVER*", "VDPAU_DRIVER*"), "Vulkan, VA-API or VDPAU loads drivers and layers"),
    Family("sasl", ("SASL_PATH", "KRB5_CONFIG"), "Cyrus SASL or Kerberos loads plug-ins"),
)
ALL_RUNTIMES = frozenset(family.runtime for family in FAMILIES)
PROGRAMS_RUNTIMES = tuple(dict.fromkeys(each.runtime for each in FAMILIES if each.runtime not in {"gh", "pnpm"}))
"""What any program may be taken over by. Not pnpm's and gh's rows: they hold what npm and every desktop program are
told by (``npm_config_*``, ``XDG_CONFIG_HOME``), which takes over neither."""

LEFT_OUT = {
    "PATH": "decides which program is started next; that one is judged by its own file, wherever it was found",
    "HOME, XDG_*, CLAUDE_CONFIG_DIR": "lead to configuration files, which are the user's and are judged as files",
    "TMPDIR": "in ld.so's list too, but ordinary sessions set it, and it names a place for files, not code",
    "SHELL, EDITOR, VISUAL, PAGER, BROWSER": "name a program that becomes a process of its own and is judged as itself",
    "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY": "redirect traffic: an agent's secret never leaves the broker, "
    "whose environment is its own",
    "NODE_TLS_REJECT_UNAUTHORIZED, NODE_USE_SYSTEM_CA": "decide which server is believed and who "
    "can read along: trust, not code, and what an agent sends holds a phantom; git, which sends a password, has rows",
    "NODE_V8_COVERAGE, NODE_REDIRECT_WARNINGS, NODE_REPL_HISTORY, NODE_DEBUG*": "write files and logs; load nothing",
    "NODE_ICU_DATA, ICU_DATA": "name tables of a locale: data, not code",
    "NODE_CHANNEL_FD, NODE_UNIQUE_ID": "set by Node itself for its children: a channel for messages, which run nothing",
    "BUN_INSTALL": "the installer of Bun puts it into profiles; a compiled agent does not read it",
    "MALLOC_ARENA_MAX, MALLOC_CHECK_ ...": "tune or check the allocator; load nothing",
    "KUBECONFIG, KUBERC, KUBE_EDITOR, KUBECTL_EXTERNAL_DIFF": "lead to files that name servers, or programs that "
    "become processes of their own: kubectl's credential is for the one server and authority that it was enrolled with",
    "GIT_AUTHOR_*, GIT_COMMITTER_*, GIT_INDEX_FILE, GIT_OBJECT_DIRECTORY": "name data and logs, no program",
}
"""Names that one might miss, and why they are not in the table."""
