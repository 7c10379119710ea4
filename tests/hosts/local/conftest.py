import pathlib
import sys

import pytest

sys.path[:0] = [str(folder) for folder in pathlib.Path(__file__).resolve().parents[:2]]
from platform_tools import Host  # noqa: E402


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)
