"""What the framework identifiers of incidents are called, for people; versions as in monitor.frameworks."""

from typing import Final

from agent_broker.monitor.frameworks import Frameworks

FRAMEWORKS: Final = (
    ("MITRE ATT&CK v19", "attack"),
    ("MITRE ATLAS v5.6.0", "atlas"),
    ("OWASP LLM 2025 and Agentic 2026", "owasp"),
    ("CoSAI risk map (SAIF)", "saif"),
)
NAMES: Final = {
    "T1036.005": "Masquerading: Match Legitimate Resource Name or Location",
    "T1055.008": "Process Injection: Ptrace System Calls",
    "T1055.009": "Process Injection: Proc Memory",
    "T1083": "File and Directory Discovery",
    "T1528": "Steal Application Access Token",
    "T1546.004": "Unix Shell Configuration Modification",
    "T1550.001": "Application Access Token",
    "T1552": "Unsecured Credentials",
    "T1552.001": "Unsecured Credentials: Credentials In Files",
    "T1552.004": "Unsecured Credentials: Private Keys",
    "T1554": "Compromise Host Software Binary",
    "T1574.006": "Dynamic Linker Hijacking",
    "T1685": "Disable or Modify Tools",
    "AML.T0037": "Data from Local System",
    "AML.T0050": "Command and Scripting Interpreter",
    "AML.T0055": "Unsecured Credentials",
    "AML.T0081": "Modify AI Agent Configuration",
    "AML.T0083": "Credentials from AI Agent Configuration",
    "AML.T0084": "Discover AI Agent Configuration",
    "AML.T0090": "OS Credential Dumping",
    "AML.T0091.000": "Use Alternate Authentication Material: Application Access Token",
    "AML.T0098": "AI Agent Tool Credential Harvesting",
    "LLM02": "Sensitive Information Disclosure",
    "ASI03": "Identity and Privilege Abuse",
    "ASI04": "Agentic Supply Chain Vulnerabilities",
    "ASI05": "Unexpected Code Execution",
    "ASI06": "Memory & Context Poisoning",
    "ASI10": "Rogue Agents",
    "riskSensitiveDataDisclosure": "risk: Sensitive Data Disclosure",
    "controlAgentCredentialIsolation": "control: Agent Credential Isolation",
    "controlAgentIntegrityManagement": "control: Agent Integrity Management",
    "controlThreatDetection": "control: Threat Detection",
}


def named(frameworks: Frameworks) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Return each framework that a detection maps to, with (identifier, name); a name may be empty."""
    found = ((title, getattr(frameworks, field)) for title, field in FRAMEWORKS)
    return tuple((title, tuple((each, NAMES.get(each, "")) for each in ids)) for title, ids in found if ids)
