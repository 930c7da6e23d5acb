"""The whole library on a pretended device, see `devices.py`."""

import pytest

from tests.pretended import run_apart


@pytest.mark.slow
def test_the_library_on_a_pretended_device():
    done = run_apart("tests/devices.py")
    assert done.returncode == 0, done.stdout[-4000:]
