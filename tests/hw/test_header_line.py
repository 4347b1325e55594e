# amaranth: UnusedElaboratable=no

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.units.header_line import HeaderLine, header_words
from tests.hw import streams
from tests.hw.engine_models import SMALL

delays = st.lists(st.integers(0, 3), max_size=24)


@settings(max_examples=10)
@given(words=st.lists(st.integers(0, (1 << 64) - 1), min_size=9, max_size=20),
       gaps=delays, stalls=delays)
def test_passes_what_is_behind(words, gaps, stalls):
    behind = words[header_words(SMALL):]
    assert streams.run(HeaderLine(SMALL, 3), words, len(behind), gaps, stalls) == behind


@pytest.mark.parametrize("kept_bytes", [0, 9])
def test_keeps_bytes_of_one_word(kept_bytes):
    with pytest.raises(ValueError, match=f"kept_bytes must be 1 to 8, not {kept_bytes}"):
        HeaderLine(SMALL, kept_bytes)
