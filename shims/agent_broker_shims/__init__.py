"""Each ecosystem's own protocol, one module each: what a shim's request means, and what it is answered.

Pure, and of the standard library alone: nothing here knows the broker, decides who may have what, or keeps a secret.
A module offers ``question``, ``answer`` and ``not_found``, and says in its docstring which client it was read from.
What a refusal looks like to the client is the shim's own to print (shims/protocols.h, ``on_failure``), so that it is
the same when the broker is down.
"""
