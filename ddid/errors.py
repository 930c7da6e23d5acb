"""The one exception a user is meant to read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from numbers import Integral, Number, Real
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


class InputError(ValueError):
    """Bad input, told in one sentence: what was wrong, where, and what to do."""


def require(condition: bool, sentence: str) -> None:
    """Raise `InputError(sentence)` unless `condition` holds: for public entries, where an assertion
    would speak to developers, and vanish under `python -O`."""
    if not condition:
        raise InputError(sentence)


@contextmanager
def refused(sentence: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn errors of these kinds into `InputError`: the sentence, and in brackets their kind and
    first line."""
    try:
        yield
    except InputError:
        raise
    except kinds as error:
        told = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise InputError(f"{sentence} ({told.removesuffix(': ')})") from error


def require_within(what: str, settings: Any, **intervals: str) -> None:
    """Raise `InputError` unless fields of a dataclass lie in intervals such as "(0, 1]"; one
    declared `int` must be a whole number."""
    for name, interval in intervals.items():
        value, kind = getattr(settings, name), type(settings).__dataclass_fields__[name].type
        whole = kind in (int, "int")
        low, high = map(float, interval[1:-1].split(","))
        number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
        inside = (
            number
            and (low < value if interval[0] == "(" else low <= value)
            and (value < high if interval[-1] == ")" else value <= high)
        )
        wanted = f"a {'whole ' * whole}number in {interval}"
        require(inside, f"{what}: {name} is {value!r}, give {wanted}")


def checked(function: Function) -> Function:
    """Decorate a public entry: an argument of another type than its annotation is an `InputError`,
    not what goes wrong somewhere behind."""
    from pydantic import ConfigDict, ValidationError, validate_call

    call = validate_call(config=ConfigDict(arbitrary_types_allowed=True, strict=True))(function)

    @wraps(function)
    def told(*arguments: Any, **named: Any) -> Any:
        try:
            return call(*arguments, **named)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place, *within = first["loc"]  # a number if it was not given by name
            place = place if isinstance(place, str) else [*signature(function).parameters][place]
            where = ".".join(map(str, [function.__name__, place, *within]))
            require(not first["type"].startswith("missing"), f"{where} is not given")
            given = first["input"]
            given = repr(given) if isinstance(given, str | Number | None) else type(given).__name__
            raise InputError(f"{where} is {given:.80}: {first['msg']}") from error

    return told  # type: ignore[return-value]
