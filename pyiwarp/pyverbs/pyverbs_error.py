"""The errors of pyverbs."""

from __future__ import annotations

import os

__all__ = ["PyverbsError", "PyverbsRDMAError", "PyverbsUserError"]

_NONE = -1


class PyverbsError(Exception):
    """Whatever pyverbs raises; `error_code` is an errno, told in the text."""

    def __init__(self, msg: str, error_code: int = _NONE) -> None:
        if error_code != _NONE:
            msg = f"{msg}. Errno: {error_code}, {os.strerror(abs(error_code))}"
        super().__init__(msg)


class PyverbsRDMAError(PyverbsError):
    """A verb was refused: `error_code` is the errno that libibverbs would have returned."""

    def __init__(self, msg: str, error_code: int = _NONE) -> None:
        super().__init__(msg, error_code)
        self._error_code = error_code

    @property
    def error_code(self) -> int:
        """The errno, or -1."""
        return self._error_code


class PyverbsUserError(PyverbsError):
    """The program asks what no device could do."""

    def __init__(self, msg: str) -> None:
        super().__init__(msg)
