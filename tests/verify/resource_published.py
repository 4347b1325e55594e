"""Section of docs/resources.md: `v80-lutllm` beside the public report of the design it follows."""

from __future__ import annotations

from hw.presets import load_hardware
from hw.resources import estimate, total, whole

REPORT = {"lut": 1_267_909, "ff": 1_046_647, "bram36": 1537 / 2 + 32, "uram": 480, "dsp": 4162}
"""AMD Power Design Manager report of the whole Qwen3 block (INT8 tables, V80, 220 MHz) in the
public repository LUT-FPGA/LUT-LLM, ``qwen_block/example.pwr``."""
SEARCH_UNIT = {"lut": 31_660, "ff": 61_200, "dsp": 128}
"""One centroid search of 64 FP32 distance units in the same repository (HLS report of a first
version)."""
PUBLISHED_SEARCHES = 16


def section() -> str:
    """Totals side by side, and where the differences come from."""
    config = load_hardware("v80-lutllm")
    parts, ours = estimate(config), total(config).rounded()
    units, trees = parts["distance units"], parts["argmin trees"]
    search = {name: getattr(units, name) + getattr(trees, name) for name in SEARCH_UNIT}
    distances = config.positions * config.act_codes_max
    unit = {name: getattr(units, name) / distances for name in SEARCH_UNIT}
    copies, adders = parts["copy lanes"], parts["SIMD adders"]
    memory, sums = parts["vector memory"], parts["accumulator"]
    rows = "\n".join(
        f"| {name} | {whole(ours[name])} | {whole(count)} | {ours[name] / count:.2f} |"
        for name, count in REPORT.items())
    published = {name: count * PUBLISHED_SEARCHES for name, count in SEARCH_UNIT.items()}
    return f"""\
## `v80-lutllm` beside the published design

The configuration has the lookup engine's geometry of LUT-LLM (arXiv 2511.06174): 16 positions x
512 columns, 16 searches of 64 distance units, 16 table ports. The report is the vendor's, of
their whole Qwen3 block; ours is modelled.

| | modelled here | published | ratio |
|---|---:|---:|---:|
{rows}

Their build computes in FP32 around the lookup engine and holds attention, norm, rotation and
SwiGLU; `v80-lutllm` is fixed point and holds the linear layers only (attention is part of `v80`).
By component:

- **Search.** An int16 distance unit takes {unit["lut"]:.0f} LUT, {unit["ff"]:.0f} FF and no DSP;
  all searches take {search["lut"]:,.0f} LUT and {search["ff"]:,.0f} FF. Theirs subtract in FP32,
  two DSP58 a unit: 2,048 of their 4,162 DSP. The HLS report of a first version has 31,660 LUT,
  61,200 FF and 128 DSP a search, {published["lut"]:,} LUT and {published["ff"]:,} FF for 16
  (before optimization; the placed design shows that the tools then save on it).
- **Row copies.** Both have 8,192 multiplexers of 16 eight-bit entries: {copies.lut:,.0f} LUT by
  our formula (Yosys' mapping, {copies.lut / 65_536:.1f} a bit), 327,680 at the 5 LUT6 a bit that
  Versal's best tree takes.
- **Cascaded adders.** Ours are all in LUTs ({adders.lut:,.0f} LUT, {adders.ff:,.0f} FF); theirs
  are half in DSP58 (1,024 of their DSP) and half in LUTs.
- **Accumulator.** 512 sums of 32 bits in {sums.uram:g} UltraRAM, two banks so that draining
  overlaps, and adders in LUTs ({sums.lut:,.0f} LUT). Theirs: pairs of 22-bit sums in 256
  UltraRAM, one bank, and 256 DSP58.
- **Memories.** Activations stay in a vector memory of 16 bits here ({memory.uram:g} UltraRAM).
  Their 480 UltraRAM hold sums, the residual and SwiGLU's operand in FP32; keys and values lie on
  chip, in FP32, in most of their {REPORT["bram36"]:g} block RAMs. Table and index buffers are LUT
  memories and block RAM in both.
- **Not here.** QK and AV arrays (512 multiply-adds each), softmax, norm, rotation, SwiGLU in
  FP32: 682 of their DSP, and with 154,865 LUTs as shift registers (queues between HLS processes)
  most of the difference in LUTs.

"""
