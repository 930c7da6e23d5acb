"""Every attack on a pretended device, see `devices.py`."""

from tests.pretended import run_apart


def test_attacks_on_a_pretended_device():
    run_apart("tests/attack/devices.py")
