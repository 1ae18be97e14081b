"""`librdmacm_enums` by the name that it had in older versions of rdma-core."""

from __future__ import annotations

from pyiwarp.pyverbs.librdmacm_enums import *  # noqa: F403 - it is the same module
