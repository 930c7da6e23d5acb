"""What a test of hostile input may see: a result, or a refusal in words."""

from collections.abc import Callable
from typing import Any

from ddid.errors import InputError


def told(action: Callable[[], Any]) -> Any:
    """Result of an action, or None if it was refused in a sentence; anything else is a failure."""
    try:
        return action()
    except InputError as error:
        refusal = str(error)
    assert refusal.strip(), "refused without a word"
    return None
