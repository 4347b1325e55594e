"""What the engines between memory, vector memory and operand store do, by the golden functions."""

from __future__ import annotations

import numpy as np

from compiler.image.access import operand_rows, row_count
from compiler.image.cache import (
    append_addresses,
    append_nibbles,
    burst_words,
    element_bits,
    token_bundles,
    write_elements,
    write_stride,
)
from compiler.image.layout import (
    unpack_centroids,
    unpack_factors,
    unpack_function,
    unpack_norm,
    unpack_rotations,
    unpack_thresholds,
)
from hw.fixed import Ints
from hw.golden import residual
from hw.golden.activation import activate as golden_activate
from hw.golden.cache import cache_quantize
from hw.golden.hadamard import hadamard as golden_hadamard
from hw.golden.importance import first_attention, importance, token_order
from hw.golden.norm import normalize
from hw.golden.quantize import quantize as golden_quantize
from hw.golden.rope import rotate
from hw.golden.search import search as golden_search
from hw.golden.softmax import LOG2_ZERO
from hw.golden.softmax import softmax as golden_softmax
from hw.golden.sparsity import drop_positions
from hw.isa import LINE_BYTES, Opcode
from sim.stores import Fields, Stores


def load(stores: Stores, fields: Fields) -> None:
    """Memory to vector memory."""
    words = np.frombuffer(stores.region(Opcode.LOAD, fields), "<i2")
    address = fields["destination"] + np.arange(fields["words"])
    stores.vector[address] = words.reshape(len(address), -1)
    stores.emit("load", address, stores.vector[address])


def store(stores: Stores, fields: Fields) -> None:
    """Vector memory to memory."""
    data = stores.vector[fields["source"] + np.arange(fields["words"])].view(np.uint8)
    write(stores, fields["address"] * LINE_BYTES, data.size)[:] = data.reshape(-1)
    address = fields["address"] * LINE_BYTES + np.arange(len(data)) * stores.config.port_bytes
    stores.emit("store", address, data, np.ones((len(data), 2 * data.shape[1]), np.uint8))


def write(stores: Stores, start: int, size: int) -> Ints:
    """Bytes of memory to write; raises ValueError beyond its end."""
    if start + size > len(stores.memory):
        raise ValueError(f"writes beyond the {len(stores.memory)} bytes of the image")
    return stores.memory[start:start + size]


def gather(stores: Stores, fields: Fields) -> None:
    """Rows of a table, chosen by token ids, as residual pairs."""
    tokens, words, config = fields["tokens"], fields["words"], stores.config
    lines = fields["ids"] + np.arange(tokens)
    chosen = [int(line) for line in lines]
    if not fields["direct"]:
        chosen = [int(stores.bytes_at(line * LINE_BYTES, 4).view("<u4")[0]) for line in chosen]
    size, base = words * config.port_bytes, fields["address"] * LINE_BYTES
    rows = np.stack([stores.bytes_at(base + row * size, size).view("<i2") for row in chosen])
    x = residual.embed(rows, fields["shift"])
    address = stores.rows(fields, "destination", 2 * words)
    if fields["add"]:
        x = residual.add(residual.from_pairs(stores.vector[address]), x)
    pairs = residual.to_pairs(x, config.word_elements)
    stores.vector[address] = pairs
    stores.emit("gather", address, pairs)


def append(stores: Stores, fields: Fields) -> None:
    """Keys or values into the cache, with byte strobes; words between two writes have none."""
    config, words, heads = stores.config, fields["words"], fields["heads"]
    rows = stores.vector[stores.rows(fields, "source", words)]
    rows = rows.reshape(fields["tokens"], heads, -1).swapaxes(0, 1)
    bits = element_bits(fields, config)
    q = cache_quantize(rows, bits).view(np.uint8) & ((1 << bits) - 1)
    q <<= (4 * append_nibbles(fields, config)).astype(np.uint8)
    address = append_addresses(fields, config)
    write(stores, int(address.max()), 1)
    # Of two elements in a byte each adds its half.
    stores.memory[address] = 0
    np.bitwise_or.at(stores.memory, address, q)
    if not stores.record:
        return
    bundles, beats = token_bundles(fields, config), burst_words(fields, config)
    place = address.reshape(*address.shape[:2], words, -1, write_elements(fields, config))
    q = q.reshape(place.shape)
    bundle = np.repeat(np.arange(len(bundles)), bundles)[:, None]
    head = np.arange(heads)[:, None, None]
    burst = (head * len(bundles) + bundle) * words + np.arange(words)
    start = np.zeros(heads * len(bundles) * words, np.int64)
    start[burst] = place[..., 0, 0] // config.port_bytes * config.port_bytes
    write_beats = np.arange(place.shape[3]) * write_stride(fields, config)
    beat = (burst[..., None] * beats + write_beats)[..., None]
    data = np.zeros((len(start) * beats, config.port_bytes), np.uint8)
    strobes = np.zeros_like(data)
    byte = place % config.port_bytes
    strobes[beat, byte] = 1
    np.bitwise_or.at(data, (beat, byte), q)
    stores.emit("store", start[:, None] + np.arange(beats) * config.port_bytes, data,
                np.repeat(strobes, 2, axis=1))


def search(stores: Stores, fields: Fields) -> None:
    """Nearest centroids into the operand store."""
    tokens, rounds, config = fields["tokens"], fields["rounds"], stores.config

    def unpack(data: Ints) -> tuple[Ints]:
        return (np.array(unpack_centroids(data, rounds, config), order="C"),)

    (centroids,) = stores.constant(Opcode.SEARCH, fields, ("rounds",), unpack)
    x = stores.vector[stores.rows(fields, "source", rounds)]
    codes = golden_search(
        x.reshape(tokens, -1, config.vector_length), centroids, bool(fields["l2"]))
    words = np.zeros((rounds * tokens, config.word_elements), np.uint8)
    by_round = codes.reshape(tokens, rounds, -1).transpose(1, 0, 2)
    words[:, ::config.vector_length] = by_round.reshape(len(words), -1)
    address = fields["operands"] + np.arange(len(words))
    stores.operand[address] = words
    stores.emit("search", address, words, np.ones((len(words), 2 * words.shape[1]), np.uint8))


def quantize(stores: Stores, fields: Fields) -> None:
    """Integer activations, channel factors and token scales."""
    rows, rounds, int4 = row_count(fields), fields["rounds"], fields["int4"]

    def unpack(data: Ints) -> tuple[Ints]:
        return (unpack_factors(data, rounds, stores.config),)

    (factors,) = stores.constant(Opcode.QUANTIZE, fields, ("rounds", "thresholds"), unpack)
    x = stores.vector[stores.rows(fields, "source", rounds)].reshape(rows, -1)
    q, peaks = golden_quantize(x, factors.reshape(-1), 4 if int4 else 8)
    if fields["thresholds"]:
        region = stores.region(Opcode.QUANTIZE, fields)
        thresholds = unpack_thresholds(region, rounds, stores.config)
        q = drop_positions(q, x, thresholds, stores.config.vector_length)
    if fields["lists"]:
        stores.listed = np.array(q.view(np.uint8).reshape(rounds, -1))
    stores.alphas[fields["alphas"] + np.arange(rounds)] = factors
    stores.scales[fields["scales"] + np.arange(rows)] = peaks
    words: Ints = q.view(np.uint8).reshape(rows, rounds, -1)
    row = np.arange(rows)[:, None]
    column = row // 2 if int4 else row
    address = fields["operands"] + np.arange(rounds) * operand_rows(rows, int4 == 1) + column
    mask = np.ones((rows, rounds, 2 * words.shape[2]), np.uint8)
    if int4:
        words = (words & 15) << (4 * (row % 2))[..., None].astype(np.uint8)
        # The even row clears the odd one's nibbles, so that every word is defined.
        mask[1::2, :, ::2] = 0
        keep = np.where(row % 2, 0x0F, 0).astype(np.uint8)[..., None]
        for r in range(rows):
            stores.operand[address[r]] = (stores.operand[address[r]] & keep[r]) | words[r]
    else:
        stores.operand[address] = words
    stores.emit("quantize", address, words, mask.reshape(rows * rounds, -1))


def activate(stores: Stores, fields: Fields) -> None:
    """Function table and product."""
    base, delta, shift = stores.constant(Opcode.ACTIVATE, fields, (), unpack_function)
    words = fields["words"]
    x = stores.vector[stores.rows(fields, "source", words)]
    factor = stores.vector[stores.rows(fields, "factor", words)] if fields["gated"] else None
    y = golden_activate(x, base, delta, factor, shift)
    address = stores.rows(fields, "destination", words)
    stores.vector[address] = y
    stores.emit("activate", address, y)


def norm(stores: Stores, fields: Fields) -> None:
    """RMSNorm or LayerNorm of every row."""
    words, config = fields["words"], stores.config
    table = stores.constant(Opcode.NORM, fields, ("words",),
                            lambda data: unpack_norm(data, words, config))
    source = stores.vector[stores.rows(fields, "source", words * (1 + fields["wide"]))]
    x = residual.from_pairs(source) if fields["wide"] else source.reshape(len(source), -1)
    n = table.columns
    y = np.tile(table.bias, (len(x), 1)).astype(np.int16)
    y[:, :n] = normalize(x[:, :n], table.weight[:n], table.bias[:n], table.shift, table.inverse,
                         table.epsilon, bool(fields["center"]))
    address = stores.rows(fields, "destination", words, "destination_")
    stores.vector[address] = y.reshape(len(y), words, -1)
    stores.emit("norm", address, y)


def rope(stores: Stores, fields: Fields) -> None:
    """Rotary embedding of every row, in place."""
    tokens, words = fields["tokens"], fields["words"]
    table = unpack_rotations(stores.region(Opcode.ROPE, fields), tokens, words, stores.config)
    address = stores.rows(fields, "source", words)
    x = stores.vector[address].reshape(len(address), -1)
    y = rotate(x, np.repeat(table, fields["heads"], axis=0))
    stores.vector[address] = y.reshape(len(y), words, -1)
    stores.emit("rope", address, y)


def hadamard(stores: Stores, fields: Fields) -> None:
    """Hadamard transform of blocks of every row, in place."""
    words = fields["words"]
    address = stores.rows(fields, "source", words)
    x = stores.vector[address].reshape(len(address), -1)
    y = golden_hadamard(x, fields["length_bits"], fields["shift"])
    stores.vector[address] = y.reshape(len(y), words, -1)
    stores.emit("hadamard", address, y)


def softmax(stores: Stores, fields: Fields) -> None:
    """Numerators into the operand store, reciprocals into the token scales."""
    rows, words, rounds, heads = (
        row_count(fields), fields["words"], fields["rounds"], fields["heads"])
    row = np.arange(rows)
    source = fields["source"] + row[:, None] * fields["stride"] + np.arange(words)
    scores = stores.vector[source].reshape(rows, -1)
    weights, reciprocals = golden_softmax(
        scores, fields["position"] + row // heads, fields["window"], fields["slope"],
        fields["fraction"], bool(fields["log2"]))
    full = np.full((rows, rounds * stores.config.word_elements),
                   LOG2_ZERO if fields["log2"] else 0, np.uint8)
    full[:, :weights.shape[1]] = weights
    result = full.reshape(rows, rounds, -1)
    address = fields["operands"] + np.arange(rounds) * rows + row[:, None]
    stores.operand[address] = result
    stores.scales[fields["scales"] + row] = reciprocals
    stores.emit("softmax", address, result)
    if fields["importance"]:
        entry = fields["entry"] + np.arange(fields["tokens"])
        attention = first_attention(weights, reciprocals, bool(fields["log2"]))
        before = None if fields["fresh"] else stores.importance[entry]
        stores.importance[entry] = importance(attention, heads, before)


def order(stores: Stores, fields: Fields) -> None:
    """Tokens by importance; a beat holds one of them, in ascending position."""
    address = np.arange(fields["tokens"])
    tokens = token_order(stores.importance[address], fields["low"], fields["pruned"])
    stores.order[address] = tokens
    beats = np.zeros((len(tokens), stores.config.port_bytes), np.uint8)
    beats[:, 0] = address
    stores.emit("order", np.argsort(tokens), beats)
