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

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddid.front import audit, balanced, evaluate, explore, read_data, train

__version__ = "0.1.0"
__all__ = ["audit", "balanced", "evaluate", "explore", "read_data", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ddid' has no attribute {name!r}")
    from ddid import front

    return getattr(front, name)
