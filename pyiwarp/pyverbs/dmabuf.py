"""DMA buffers, which there are none of."""

from __future__ import annotations

from pyiwarp.pyverbs.base import PyverbsCM, unsupported

__all__ = ["DmaBuf"]


class DmaBuf(PyverbsCM):
    """A DMA buffer."""

    def __init__(self, size: int, gpu: int = 0, gtt: int = 0) -> None:
        unsupported("Failed to allocate dmabuf")
