"""Sign mode: the ssh-agent socket. Keys stay in the vault; what leaves is a signature, and each is asked for anew."""
