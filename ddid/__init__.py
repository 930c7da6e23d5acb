"""Debiased dual-invariant defence for adversarially robust person re-identification.

    import ddid

    data = ddid.read_data("my_data")
    train, query, gallery = data.images(size=(256, 128))
    train = ddid.balanced(train, out="out/balance")
    net = ddid.train("ddid", train, out="out/ddid", steps=24_000)
    result = ddid.audit(net, query, gallery, out="out/audit")
    print(result.table(), result.flags)
    ddid.explore({"mine": net}, query, gallery)

Everything made lies in `out`; called again, finished work is found there as long as data, settings
and code are the same. Importing the package loads nothing heavy.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddid.front import audit, balanced, evaluate, explore, read_data, train

__version__ = "0.1.0"
__all__ = ["audit", "balanced", "evaluate", "explore", "read_data", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("ddid.front"), name)
    if name.startswith("_") or not find_spec(f"ddid.{name}"):
        raise AttributeError(f"module 'ddid' has no attribute {name!r}")
    return import_module(f"ddid.{name}")  # `ddid.model.load_model` in a session's first line
