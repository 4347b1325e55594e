"""Instructions as rows of integers: what decides how long an engine takes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from compiler.image.access import row_count
from compiler.image.cache import append_addresses, burst_words, columns_of_word, token_bundles
from compiler.image.layout import PARAMETER_WORDS
from compiler.image.program import Instruction
from compiler.image.records import RecordFormat
from compiler.image.weights import WeightFormat
from hw.config import HardwareConfig
from hw.fixed import Ints
from hw.isa import ENGINE_OF, LINE_BYTES, OPTIONAL, LutMode, Opcode, SimdMode
from hw.units.lookup_layouts import quarter_blocks, quarter_words
from hw.units.record_loader import HALVES, QUARTERS
from hw.units.simd_sequencer import TOKEN_CYCLES

Fields = Mapping[str, int]

(OPCODE, ENGINE, WAIT, POST, ADDRESS, WORDS, ROWS, HEADS, ROUNDS, STEPS, PASS, PARTS, MODE, START,
 LIMIT, EXTRA) = range(16)
ROW_FIELDS = 16
"""Columns; the first five mean the same for all, the others what the functions below say."""
DIRECT, ADD = 1, 2
"""Bits of MODE of a GATHER."""
THRESHOLDS, ORDERED = 1, 2
"""Bits of MODE of a QUANTIZE."""


def _words(fields: Fields, config: HardwareConfig) -> dict[int, int]:
    """WORDS: to move (LOAD, STORE)."""
    return {WORDS: fields["words"]}


def _gather(fields: Fields, config: HardwareConfig) -> dict[int, int]:
    """ROWS: tokens; WORDS: of a row; START: port word of the first id."""
    return {ROWS: fields["tokens"], WORDS: fields["words"],
            START: fields["ids"] * LINE_BYTES // config.port_bytes,
            MODE: DIRECT * fields["direct"] + ADD * fields["add"]}


def _search(fields: Fields, config: HardwareConfig) -> dict[int, int]:
    """ROUNDS; ROWS: tokens."""
    return {ROUNDS: fields["rounds"], ROWS: fields["tokens"]}


def _quantize(fields: Fields, config: HardwareConfig) -> dict[int, int]:
    """ROUNDS; ROWS; WORDS: of channel factors."""
    entries = config.port_bits // (4 * config.chunks_per_word)
    return {ROUNDS: fields["rounds"], ROWS: row_count(fields),
            WORDS: -(-fields["rounds"] // entries),
            MODE: THRESHOLDS * fields["thresholds"] + ORDERED * fields["ordered"]}


def _lut(fields: Fields, config: HardwareConfig) -> dict[int, int]:
    """ROUNDS; STEPS: of a pass; PASS: passes of a round (slices); ROWS: tokens; MODE: gather.

    WORDS: of a record as a loader takes it, of the longer share where lanes share ports; PARTS: of
    a token's bundle; EXTRA: of its indices; LIMIT: of a record in memory; START: records that a
    lane's buffers hold. ADDRESS: of the last port, whose lanes are the last to be free.
    """
    form = RecordFormat.of(fields, config)
    gather = fields["mode"] == LutMode.GATHER
    indices = sum(form.plane_words)
    table = fields["tokens"] * form.bundle_words if gather else fields["table_words"]
    record = table + indices if gather else form.round_words // config.positions_per_port
    last = (config.weight_ports - 1) * fields["port_stride"]
    return {
        ADDRESS: (fields["address"] + last) * LINE_BYTES // config.port_bytes,
        ROUNDS: fields["rounds"], STEPS: fields["tokens"] * fields["blocks"],
        PASS: fields["slices"], ROWS: fields["tokens"], MODE: int(gather),
        START: QUARTERS if table <= quarter_words(config) and form.blocks <= quarter_blocks(config)
        else HALVES, WORDS: record, PARTS: form.bundle_words, EXTRA: indices,
        LIMIT: fields["record_words"]}


def _simd(fields: Fields, config: HardwareConfig) -> dict[int, int]:
    """PARTS: weight groups; WORDS: of a group; ROWS: tokens or pairs; PASS: cycles of one of them;
    STEPS: chunks; MODE: volatile.
    """
    form = WeightFormat.of(fields, config)
    paired = fields["mode"] == SimdMode.W4A4
    chunks = form.group_rounds * config.chunks_per_word
    return {
        PARTS: form.blocks * form.groups, WORDS: form.group_bytes // config.port_bytes,
        ROWS: (fields["tokens"] + 1) // 2 if paired else fields["tokens"], STEPS: chunks,
        PASS: max(chunks, TOKEN_CYCLES), MODE: fields["volatile"]}


def _drain(fields: Fields, config: HardwareConfig) -> dict[int, int]:
    """WORDS: vector words; ROWS; MODE: of the instruction; PASS: uniform; EXTRA: ordered.

    STEPS: port words of parameters of a vector word behind the first.
    """
    return {WORDS: fields["words"], ROWS: row_count(fields), MODE: fields["mode"],
            PASS: fields["uniform"], EXTRA: fields["ordered"],
            STEPS: 1 if fields["compact"] else PARAMETER_WORDS}


def _activate(fields: Fields, config: HardwareConfig) -> dict[int, int]:
    """WORDS: of all tokens; MODE: gated."""
    return {WORDS: fields["tokens"] * fields["words"], MODE: fields["gated"]}


def _append(fields: Fields, config: HardwareConfig) -> dict[int, int]:
    """HEADS; ROWS: tokens; WORDS: of a row; PARTS: port words of a command. START, PASS: tokens of
    the first bundle and of those behind it. ADDRESS: of the first write. LIMIT, MODE, EXTRA, STEPS:
    port words from head to head, bundle to bundle, every ROUNDS vector words, and between these.
    """
    bundles = token_bundles(fields, config)
    line_words = LINE_BYTES // config.port_bytes
    port_words = fields["port_stride"] * line_words
    chunk_words = config.port_columns // columns_of_word(fields, config)
    steps = config.chunks_per_word * chunk_words
    rounds, extra, bundle = fields["group_rounds"], fields["group_words"], 1
    if fields["transpose"]:
        steps = burst_words(fields, config)
        rounds, extra, bundle = chunk_words // steps, port_words, chunk_words
    return {
        ADDRESS: int(append_addresses({**fields, "tokens": 1}, config)[0, 0, 0])
        // config.port_bytes,
        HEADS: fields["heads"], ROWS: fields["tokens"], WORDS: fields["words"],
        PARTS: burst_words(fields, config), START: bundles[0],
        PASS: bundles[min(1, len(bundles) - 1)], LIMIT: fields["cache_stride"] * line_words,
        MODE: bundle, ROUNDS: rounds, EXTRA: extra, STEPS: steps}


def _norm(fields: Fields, config: HardwareConfig) -> dict[int, int]:
    """ROWS; WORDS: of a result; PASS: words read for one of them; MODE: center."""
    return {ROWS: row_count(fields), WORDS: fields["words"], PASS: 1 + fields["wide"],
            MODE: fields["center"]}


def _rope(fields: Fields, config: HardwareConfig) -> dict[int, int]:
    """ROWS: tokens; HEADS; WORDS: of a head."""
    return {ROWS: fields["tokens"], HEADS: fields["heads"], WORDS: fields["words"]}


def _hadamard(fields: Fields, config: HardwareConfig) -> dict[int, int]:
    """WORDS: of all rows; EXTRA: words of a block less one, that come before the first result."""
    block = (1 << fields["length_bits"]) // config.word_elements
    return {WORDS: row_count(fields) * fields["words"], EXTRA: max(0, block - 1)}


def _softmax(fields: Fields, config: HardwareConfig) -> dict[int, int]:
    """ROWS; HEADS; WORDS: of scores; ROUNDS; START: position; LIMIT: window; MODE: importance."""
    return {ROWS: row_count(fields), HEADS: fields["heads"], WORDS: fields["words"],
            ROUNDS: fields["rounds"], START: fields["position"], LIMIT: fields["window"],
            MODE: fields["importance"]}


def _order(fields: Fields, config: HardwareConfig) -> dict[int, int]:
    """ROWS: tokens."""
    return {ROWS: fields["tokens"]}


def _loop(fields: Fields, config: HardwareConfig) -> dict[int, int]:
    """ROUNDS: iterations; WORDS: instructions of the body."""
    return {ROUNDS: fields["count"], WORDS: fields["length"]}


PACK: dict[Opcode, Callable[[Fields, HardwareConfig], dict[int, int]]] = {
    Opcode.LOAD: _words, Opcode.STORE: _words, Opcode.GATHER: _gather, Opcode.SEARCH: _search,
    Opcode.QUANTIZE: _quantize, Opcode.LUT: _lut, Opcode.SIMD: _simd, Opcode.DRAIN: _drain,
    Opcode.ACTIVATE: _activate, Opcode.APPEND: _append, Opcode.NORM: _norm, Opcode.ROPE: _rope,
    Opcode.HADAMARD: _hadamard, Opcode.SOFTMAX: _softmax, Opcode.ORDER: _order,
    Opcode.LOOP: _loop,
}


def pack_row(opcode: Opcode, fields: Fields, config: HardwareConfig) -> Ints:
    """Row of an instruction."""
    row = np.zeros(ROW_FIELDS, np.int64)
    row[OPCODE], row[ENGINE] = opcode, ENGINE_OF.get(opcode, -1)
    if opcode == Opcode.END:
        return row
    row[WAIT], row[POST] = fields.get("wait", 0), fields.get("post", 0)
    row[ADDRESS] = fields.get("address", 0) * LINE_BYTES // config.port_bytes
    known = {**dict.fromkeys(OPTIONAL, 0), **fields}
    for column, value in PACK[opcode](known, config).items():
        row[column] = value
    return row


def pack_rows(program: Sequence[Instruction], config: HardwareConfig) -> Ints:
    """Rows of a stored program, LOOP among them, END behind."""
    rows = [pack_row(opcode, fields, config) for opcode, fields in program]
    return np.stack([*rows, pack_row(Opcode.END, {}, config)])
