"""Protection domains, parent domains included."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.base import Owner, PyverbsObject, invalid
from pyiwarp.pyverbs.core import Core
from pyiwarp.pyverbs.device import Context
from pyiwarp.pyverbs.opened import Opened
from pyiwarp.pyverbs.pyverbs_error import PyverbsUserError
from pyiwarp.verbs import MemoryRegion, ProtectionDomain

if TYPE_CHECKING:
    from pyiwarp.pyverbs.wr import SGE

__all__ = ["PD", "Domain", "ParentDomain", "ParentDomainContext", "ParentDomainInitAttr"]


class Domain:
    """What is below a protection domain: that of the stack, and a region that is closed.

    The region stands for keys that name no memory: a work request with it fails in its turn, as hardware's does.
    """

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        with opened.core.poller:
            self.verbs: ProtectionDomain = opened.context.alloc_pd()
            self.void: MemoryRegion = self.verbs.register(bytearray(1))
            self.void.close()

    def close(self) -> None:
        """Close it with what is in it."""
        if not self.opened.core.left_behind:
            with self.opened.core.poller:
                self.verbs.close(force=True)


class PD(Owner):
    """A protection domain of a context, or of an identifier of rdma_cm; `handle` imports one."""

    rank = 6

    def __init__(self, creator: Any, **kwargs: Any) -> None:
        super().__init__()
        if isinstance(creator, Context):
            self.ctx = creator
        elif isinstance(getattr(creator, "ctx", None), Context):  # an identifier
            self.ctx = creator.ctx
            creator.pd = self
        else:
            raise PyverbsUserError(f"Cannot create PD from {type(creator)}")
        handle = kwargs.get("handle")
        self._is_imported = handle is not None
        if handle is None:
            self.domain = self._allocate()
            self.handle: int = self.ctx.opened.add_handle(self.domain)
            self.on_drop(self.ctx.opened.forget_handle, self.handle)
        else:
            self.domain = _imported(self.ctx, handle)
            self.handle = handle
        self.ctx.add_ref(self)

    @property
    def core(self) -> Core:
        """The progress of the process."""
        return self.ctx.opened.core

    @property
    def pd(self) -> int:
        """A number for the protection domain, as an address would be."""
        return id(self)

    def advise_mr(self, advise: int, flags: int, sg_list: Iterable[SGE]) -> int:
        """Memory is there already; it must be registered."""
        for sge in sg_list:
            region = self.ctx.opened.regions.get(sge.lkey)
            if region is None or not 0 <= sge.addr - region.to <= region.nbytes - sge.length:
                invalid("Failed to advise MR")
        return 0

    def unimport(self) -> None:
        """Give the import up."""
        self.close()

    def _allocate(self) -> Domain:
        domain = Domain(self.ctx.opened)
        self.on_drop(self.core.soon, domain.close)
        return domain

    def _let_go(self) -> None:
        if not self._is_imported:
            self.domain.close()
            self.ctx.opened.forget_handle(self.handle)


def _imported(ctx: Context, handle: int) -> Domain:
    domain = ctx.opened.handles.get(handle)
    if not isinstance(domain, Domain):
        invalid("Failed to import PD")
    return domain


class ParentDomainContext(PyverbsObject):
    """A program's allocator. No memory of the device's driver is needed here, so nothing is asked of it."""

    def __init__(
        self, pd: PD, alloc_func: Callable[..., Any], free_func: Callable[..., Any], user_data: Any = None
    ) -> None:
        super().__init__()
        self.pd = pd
        self.p_alloc = alloc_func
        self.p_free = free_func
        self.user_data = user_data


class ParentDomainInitAttr(PyverbsObject):
    """What a parent domain is made of.

    `comp_mask` may allow memory that a confidential guest shares with its host: all memory is as good as another here.
    """

    def __init__(self, pd: PD, pd_context: ParentDomainContext | None = None, comp_mask: int = 0) -> None:
        super().__init__()
        self.pd = pd
        self.pd_context = pd_context
        bits = e.ibv_parent_domain_init_attr_mask
        both = bits.IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT | bits.IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS
        self.comp_mask = comp_mask if pd_context is None else comp_mask | int(both)


class ParentDomain(PD):
    """A parent domain: another name for its protection domain."""

    rank = 5

    def __init__(self, context: Context, attr: ParentDomainInitAttr) -> None:
        self.protection_domain = attr.pd
        self.pd_context = attr.pd_context
        super().__init__(context)
        attr.pd.add_ref(self)

    def _allocate(self) -> Domain:
        return self.protection_domain.domain

    def _let_go(self) -> None:
        self.ctx.opened.forget_handle(self.handle)
