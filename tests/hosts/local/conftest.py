import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from platform_tools import Host  # noqa: E402


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)
