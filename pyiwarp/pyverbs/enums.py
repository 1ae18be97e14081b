"""All enumerations, by the name of the module that they had before version 46 of rdma-core."""

from __future__ import annotations

from typing import Any

from pyiwarp.pyverbs import libibverbs_enums, librdmacm_enums


def __getattr__(name: str) -> Any:
    for home in (libibverbs_enums, librdmacm_enums):
        if not name.startswith("__") and name in vars(home):
            return vars(home)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*vars(libibverbs_enums), *vars(librdmacm_enums)})


__all__ = [name for name in __dir__() if name.startswith(("IBV_", "ibv_", "RDMA_", "rdma_", "RAI_", "_IBV"))]
