"""The packaged model, where its wheel is."""

import pytest

from compiler.errors import FrontendError
from compiler.frontends import packaged


@pytest.fixture(scope="session")
def packaged_model():
    """Name of the packaged model; tests that need it are skipped without its wheel."""
    try:
        packaged.find_model("smollm2-135m")
    except FrontendError as error:
        pytest.skip(str(error))
    return "smollm2-135m"
