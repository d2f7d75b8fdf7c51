"""Which public framework identifiers each kind of incident carries.

Identifiers and names as published in MITRE ATT&CK v19, MITRE ATLAS v5.6.0, OWASP LLM Top 10 2025 and
Agentic Top 10 2026, and the CoSAI risk map (SAIF). The mapping is this project's own.
"""

from msgspec import Struct


class Frameworks(Struct, frozen=True):
    """Identifiers of one detection."""

    attack: tuple[str, ...]
    atlas: tuple[str, ...]
    owasp: tuple[str, ...]
    saif: tuple[str, ...]


_CREDENTIAL_ISOLATION = ("riskSensitiveDataDisclosure", "controlAgentCredentialIsolation")

KINDS: dict[str, Frameworks] = {
    "decoy-opened": Frameworks(
        attack=("T1552.001", "T1083"),
        atlas=("AML.T0083", "AML.T0055", "AML.T0084"),
        owasp=("LLM02", "ASI03"),
        saif=(*_CREDENTIAL_ISOLATION, "controlThreatDetection"),
    ),
    "decoy-replaced": Frameworks(
        attack=("T1685",), atlas=("AML.T0081",), owasp=("ASI04", "ASI06"), saif=("controlAgentIntegrityManagement",)
    ),
    "credential-opened": Frameworks(
        attack=("T1552.001", "T1552.004"),
        atlas=("AML.T0055", "AML.T0037"),
        owasp=("LLM02", "ASI03"),
        saif=(*_CREDENTIAL_ISOLATION, "controlThreatDetection"),
    ),
    "config-changed": Frameworks(
        attack=("T1546.004",), atlas=("AML.T0081",), owasp=("ASI04", "ASI06"), saif=("controlAgentIntegrityManagement",)
    ),
    "monitor-tampered": Frameworks(attack=("T1685",), atlas=(), owasp=("ASI10",), saif=("controlThreatDetection",)),
    "decoy-used": Frameworks(
        attack=("T1552.001", "T1550.001"),
        atlas=("AML.T0083", "AML.T0091.000"),
        owasp=("LLM02", "ASI03"),
        saif=(*_CREDENTIAL_ISOLATION, "controlThreatDetection"),
    ),
    "phantom-replayed": Frameworks(
        attack=("T1528", "T1550.001"),
        atlas=("AML.T0055", "AML.T0091.000"),
        owasp=("LLM02", "ASI03"),
        saif=_CREDENTIAL_ISOLATION,
    ),
    "release-refused": Frameworks(
        attack=("T1552", "T1528"),
        atlas=("AML.T0098", "AML.T0055"),
        owasp=("LLM02", "ASI03"),
        saif=_CREDENTIAL_ISOLATION,
    ),
    "agent-tainted": Frameworks(
        attack=("T1574.006", "T1554"), atlas=("AML.T0050",), owasp=("ASI05",), saif=("controlAgentIntegrityManagement",)
    ),
    "agent-updated": Frameworks(
        attack=("T1554", "T1036.005"),
        atlas=(),
        owasp=("ASI04",),
        saif=("controlAgentIntegrityManagement",),
    ),
    "agent-tampered": Frameworks(
        attack=("T1055.008", "T1055.009"),
        atlas=("AML.T0090",),
        owasp=("ASI03",),
        saif=("controlAgentIntegrityManagement", "controlThreatDetection"),
    ),
    "login-ended": Frameworks(
        attack=("T1528", "T1550.001"), atlas=("AML.T0055",), owasp=("LLM02", "ASI03"), saif=_CREDENTIAL_ISOLATION
    ),
    "lineage-lost": Frameworks(attack=("T1685",), atlas=(), owasp=("ASI10",), saif=("controlThreatDetection",)),
}


def frameworks_of(kind: str) -> Frameworks:
    """Return the identifiers of a kind of incident.

    Raises:
        KeyError: no such kind: a detection without a mapping must not exist.
    """
    return KINDS[kind]
