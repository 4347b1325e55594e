"""Round-robin choice among clients."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class RoundRobin(wiring.Component):
    """Grant one of the requesting clients: the next one after the client that was served last.

    Combinational; a client waits for at most every other client once.

    Parameters
    ----------
    clients : number of clients

    Members
    -------
    requests : In, a bit for each client
    advance : In(1), the grant is used in this cycle
    grant : Out, one-hot, 0 when nobody requests
    """

    def __init__(self, clients: int) -> None:
        if clients < 1:
            raise ValueError(f"clients must be 1 or more, not {clients}")
        self.clients = clients
        super().__init__({
            "requests": In(clients), "advance": In(1), "grant": Out(clients),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        after = Signal(self.clients)
        later = Signal(self.clients)
        candidates = Signal(self.clients)
        m.d.comb += [
            later.eq(self.requests & after),
            candidates.eq(Mux(later.any(), later, self.requests)),
            self.grant.eq(candidates & (~candidates + 1)),
        ]
        with m.If(self.advance & self.grant.any()):
            m.d.sync += after.eq(~(self.grant | (self.grant - 1)))
        return m
