"""What is on disk: layouts of data sets, their manifest, and their images as tensors."""

from ddid.data.reading import Data, read_data, reopen

__all__ = ["Data", "read_data", "reopen"]
