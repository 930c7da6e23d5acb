"""The one exception a user is meant to read."""


class InputError(ValueError):
    """Bad input, told in one sentence: what was wrong, where, and what to do."""


def require(condition: bool, sentence: str) -> None:
    """Raise `InputError(sentence)` unless `condition` holds.

    Our choice: contracts at public entries are code with a sentence, not assertions, because
    assertions vanish under `python -O` and speak to developers.

    >>> require(1 > 0, "never shown")
    >>> require(0 > 1, "eps is 2.0 but pixels lie in [0, 1]: give a fraction such as 8/255")
    Traceback (most recent call last):
        ...
    ddid.errors.InputError: eps is 2.0 but pixels lie in [0, 1]: give a fraction such as 8/255
    """
    if not condition:
        raise InputError(sentence)
