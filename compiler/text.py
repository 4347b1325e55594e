"""Text that comes with lutrip, in the public domain."""

from __future__ import annotations

DEFAULT_PROMPT = (
    "It is interesting to contemplate an entangled bank, clothed with many plants of many kinds, "
    "with birds singing on the bushes, with various insects flitting about, and with worms "
    "crawling through the damp earth, and to reflect that these elaborately constructed forms, so "
    "different from each other, and dependent on each other in so complex a manner, have all been "
    "produced by laws acting around us."
)
"""The last paragraph of Charles Darwin, "On the Origin of Species" (1859)."""
