"""What the result of a whole model's run holds beside the keys that every run has.

- ``token_ids``, ``text``: what the run generated; text is null without the model's tokenizer.
- ``simulated_layers``: null, or the layers that ran in RTL while golden did the rest; ``scope``
  says it in words.
- ``passes``: every program of the build in order, with the positions ``first`` to ``first +
  tokens`` and, where it runs one layer alone, ``layer``. A pass that ran in RTL (``simulated``)
  has the keys of `PASS_FORMAT` too; ``token`` is the one that it produced.
- ``prefill``, ``decode``: sums over the simulated passes of a kind, null without any.
- ``overlap``: cycles in which the linear engine was busy (``linear_cycles``) and another one too,
  in which a weight port moved a word (``weight_cycles``) and the linear engine was busy too.
- ``timeline``: passes whose spans are there, one behind the other, and where each starts.
- ``residual``: step, largest magnitude on the calibration text, and how many times that the
  int32 residual holds.
- ``failed_pass``: name of the pass that differed or stopped.
- ``resumed_passes``: passes that an earlier run had finished; ``golden_wall_s`` is golden's time.
"""

from __future__ import annotations

from typing import Any

DECODER = "decoder"
PREFILL, DECODE = "prefill", "decode"
OR_NULL = "or null"

PHASE: dict[str, Any] = {
    "passes": int, "tokens": int, "cycles": int, "latency_s": float, "tokens_per_s": float,
    "energy_j": float, "tokens_per_j": float, "wall_s": float, "wall_s_per_token": float,
    "weight_bytes": int,
}
OVERLAP: dict[str, Any] = {
    "linear_cycles": int, "linear_beside_others_cycles": int, "weight_cycles": int,
    "weight_beside_linear_cycles": int, "others_busy": float, "weights_arriving": float,
    "weights_beside_linear": float, "prefetched_words": int,
}
DECODER_FORMAT: dict[str, Any] = {
    "token_ids": [int], "text": (OR_NULL, str), "prompt_tokens": [int], "new_tokens": int,
    "capacity": int, "scope": str, "simulated_layers": (OR_NULL, [int]),
    "failed_pass": (OR_NULL, str), "resumed_passes": int, "golden_wall_s": float,
    "passes": [{
        "name": str, "first": int, "tokens": int, "layer": (OR_NULL, int), "simulated": bool,
        "token": (OR_NULL, int),
    }],
    PREFILL: (OR_NULL, PHASE), DECODE: (OR_NULL, PHASE), "overlap": OVERLAP,
    "timeline": [{"pass": str, "start_cycle": int, "cycles": int}],
    "residual": (OR_NULL, {"scale": float, "peak": float, "headroom": float}),
}
PASS_FORMAT: dict[str, Any] = {
    "bit_exact": bool, "cycles": int, "latency_s": float, "energy_j": float, "wall_s": float,
    "beats": int, "weight_bytes": int, "others_busy": float, "weights_arriving": float,
}
"""Keys of a simulated pass."""
