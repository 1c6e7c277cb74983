"""rliable, with which the reports' statistics are compared."""

from types import ModuleType
from unittest.mock import patch

import pytest


def rliable_library() -> ModuleType:
    """`rliable.library`; the test is skipped where it is not installed.

    It needs arch below 8, which uses a private decorator of pandas that takes other arguments since pandas
    3.1: for the import it is one that does nothing.
    """
    with patch("pandas.util._decorators.deprecate_kwarg", lambda *_, **__: lambda function: function):
        return pytest.importorskip("rliable.library", reason="rliable is not installed")
