"""What tiling keeps while it emits instructions: stores, regions, tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from compiler.errors import CompileError
from compiler.image.access import ALPHA_ENTRIES, SCALE_ENTRIES
from compiler.image.program import Task
from compiler.ir.graph import Graph
from compiler.ir.ops import Op
from compiler.lower.allocate import WHOLE, Allocator, Share
from hw.config import HardwareConfig
from hw.isa import Opcode

STRIDE_MAX = 4095
"""Words from a row to the next in an instruction."""


@dataclass(frozen=True)
class Place:
    """A tensor in vector memory: first word and words of a token's row.

    before: rows in front of the first token's.
    """

    start: int
    stride: int
    before: int = 0


@dataclass
class Operand:
    """A prepared input in the operand store.

    start: first word, or None when the store does not hold all rounds at once (searched again
    for every column tile); rounds: how many; done: whether it is written; alphas, scales: first
    entries (integers only).
    """

    start: int | None
    rounds: int
    done: bool
    alphas: int = 0
    scales: int = 0


@dataclass
class Context:
    """State of one tiling attempt with ``tokens`` tokens a tile.

    words: vector words of a row, by tensor; made: operation that makes a tensor. constants:
    deferred bytes by region name. listed: the tensor whose positions the lists hold. dry: only
    room is asked for, nothing is emitted. share, reserved: of the stores, of vector memory
    (`Allocator`).
    """

    graph: Graph
    config: HardwareConfig
    tokens: int
    words: Mapping[str, int]
    made: Mapping[str, Op]
    tasks: list[Task] = field(default_factory=list)
    constants: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    operands: dict[str, Operand] = field(default_factory=dict)
    bank: int = 0
    listed: str | None = None
    dry: bool = False
    share: Share = WHOLE
    reserved: int = 0

    def __post_init__(self) -> None:
        config, share = self.config, self.share
        self.vector = Allocator(
            "vector memory (vector_words)", config.vector_words, share, self.reserved)
        self.store = Allocator("operand store (operand_words)", config.operand_words, share)
        self.alphas = Allocator("channel factor entries", ALPHA_ENTRIES, share)
        self.scales = Allocator("token scale entries", SCALE_ENTRIES, share)
        self.stores = self.vector, self.store, self.alphas, self.scales

    def emit(self, opcode: Opcode, op: str, region: str, **fields: int) -> None:
        """Append an instruction; ``region`` is empty where it has no address."""
        if self.dry:
            return
        self.tasks.append(Task(opcode=opcode, op=op, region=region, fields=fields))

    def constant(self, name: str, make: Callable[[], bytes]) -> str:
        """Region of constant bytes; made once, however often it is named."""
        self.constants.setdefault(name, make)
        return name

    def place(self, tensor: str, before: int = 0) -> Place:
        """Allocate a tensor of a token tile, and rows in front of it, in vector memory."""
        stride = self.words[tensor]
        if stride > STRIDE_MAX:
            raise CompileError(f"{tensor}: rows of {stride} words, at most {STRIDE_MAX} fit")
        start = self.vector.allocate(stride * (before + self.tokens)) + before * stride
        self.places[tensor] = Place(start, stride, before)
        return self.places[tensor]

    def free(self, tensor: str) -> None:
        """Free what `place` allocated."""
        place = self.places.pop(tensor)
        self.vector.free(place.start - place.before * place.stride)
