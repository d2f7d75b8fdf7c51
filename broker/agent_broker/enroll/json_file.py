"""The JSON files of an agent's: see document_file."""

from agent_broker.enroll.document_file import DocumentFile as JsonFile
from agent_broker.enroll.document_file import UnreadableFileError as NotJsonFileError

__all__ = ["JsonFile", "NotJsonFileError"]
