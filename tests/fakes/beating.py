"""A sensor on the running kernel with a heartbeat, and the ways in which root can take its hooks away."""

import ctypes
import os

from agent_broker.clock import SystemClock
from agent_broker.identity.attest import Attestor
from agent_broker.identity.environment import scan_strings
from agent_broker.identity.executable import HashCache
from agent_broker.kernel.sensor import CoreSensor
from agent_broker.lineage.store import Store
from agent_broker.monitor.heartbeat import Heartbeat
from agent_broker.monitor.proven import ProvenAttestor


class Beating:
    def __init__(self):
        self.told = []
        self.heartbeat = Heartbeat(SystemClock())
        self.heartbeat.on_blind = self.told.append
        self.store = Store(scan_strings, str)
        self.sensor = CoreSensor(self.heartbeat.tap(self.store.apply))
        self.store.link_seeded()
        attestor = Attestor(epoch="e1", tier="test", sensor=self.sensor, store=self.store, hashes=HashCache())
        self.attestor = ProvenAttestor(attestor, self.heartbeat)
        self.programs = self.sensor._programs

    def detach(self, hook):
        """Take a hook away so that nothing but its silence tells."""
        link, _ = self.programs._attached.pop(hook)
        del self.programs.links[hook]
        self.programs.libbpf.number("bpf_link__destroy", link)

    def close_link(self, hook):
        """Put something else in the place of the hook's descriptor, as a debugger could; that detaches it."""
        link, _ = self.programs._attached[hook]
        os.dup2(0, self.programs.libbpf.number("bpf_link__fd", link))

    def force_detach(self, hook):
        """Ask the kernel to detach a link by force (BPF_LINK_DETACH); return the errno, 0 if it did."""
        link, _ = self.programs._attached[hook]
        fd = self.programs.libbpf.number("bpf_link__fd", link)
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
        return -library.bpf_link_detach(fd)

    def age(self):
        """Make the last proof too old to answer with."""
        self.heartbeat.proven_ns -= 10**11

    async def close(self):
        await self.heartbeat.close()
        self.sensor.close()
