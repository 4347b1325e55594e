"""Agile-Quant's token rule in a scheme: which share of the tokens takes int4 activations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.errors import ConfigError
from hw.presets import check_keys

RULED = ("o", "gate", "up", "down")
"""Linear layers whose inputs may be int4; those of q, k and v stay int8."""
TOKENS_MAX = 255


@dataclass(frozen=True, kw_only=True)
class TokenRule:
    """Tokens that pay little attention to the first token count less (Shen et al., "Agile-Quant").

    int4, pruned: shares of the tokens of a prefill pass, the least important of all in ``pruned``.
    An int4 token has int4 activations at the inputs of o, gate, up and down. A pruned token has
    them at o and skips the layer's MLP; in other layers it may take part again, and it is scored
    like all others. from_layer: layers before it have no rule. tokens: longest pass.
    A pass of one token, as in decoding, has no rule.
    """

    int4: float = 0.0
    pruned: float = 0.0
    from_layer: int = 0
    tokens: int = 32

    def parts(self, tokens: int) -> tuple[int, int]:
        """How many tokens of a pass are int4, and how many pruned."""
        if tokens < 2:
            return 0, 0
        return int(self.int4 * tokens), int(self.pruned * tokens)


def read_token_rule(path: Path, value: Any) -> TokenRule:
    """The rule of a scheme's ``token_rule``; raises ConfigError in one line."""
    where = f"{path} (token_rule)"
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: must map int4, pruned, from_layer and tokens, not {value!r}")
    check_keys(where, value, set(TokenRule.__dataclass_fields__), set())
    for key in ("int4", "pruned"):
        given = value.get(key, 0.0)
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
            raise ConfigError(f"{where}: {key} must be a share from 0 to 1, not {given!r}")
    for key, least, most in (("from_layer", 0, None), ("tokens", 2, TOKENS_MAX)):
        given = value.get(key, least)
        if isinstance(given, bool) or not isinstance(given, int) or given < least or (
                most is not None and given > most):
            limits = f"from {least}" if most is None else f"from {least} to {most}"
            raise ConfigError(f"{where}: {key} must be a whole number {limits}, not {given!r}")
    rule = TokenRule(**value)
    if rule.int4 + rule.pruned > 1:
        raise ConfigError(f"{where}: int4 and pruned must be at most 1 together, not "
                          f"{rule.int4 + rule.pruned:g}")
    return rule
