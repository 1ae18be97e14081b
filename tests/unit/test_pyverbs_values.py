"""Values of the stand-in for pyverbs that newer versions of pyverbs have grown."""

from __future__ import annotations

import errno

import pytest

from pyiwarp.pyverbs.cmid import AddrInfo
from pyiwarp.pyverbs.device import Context
from pyiwarp.pyverbs.libibverbs_enums import ibv_access_flags
from pyiwarp.pyverbs.libibverbs_enums import ibv_parent_domain_init_attr_mask as mask
from pyiwarp.pyverbs.librdmacm_enums import RAI_PASSIVE
from pyiwarp.pyverbs.mr import MR
from pyiwarp.pyverbs.pd import PD, ParentDomain, ParentDomainContext, ParentDomainInitAttr
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError


def test_addresses_are_looked_up_in_the_place_of_others() -> None:
    info = AddrInfo(src="127.0.0.1", src_service="7471", flags=RAI_PASSIVE)
    assert (info.src, info.dst) == (("127.0.0.1", 7471), None)
    info.get_addrinfo(src="127.0.0.2", dst="127.0.0.3", dst_service="7472")
    assert info.src is not None
    assert (info.src[0], info.dst, info.flags) == ("127.0.0.2", ("127.0.0.3", 7472), 0)
    with pytest.raises(PyverbsRDMAError, match="Failed to get Address Info"):
        info.get_addrinfo(dst="no such host", dst_service="1")


def test_an_implicit_region_has_memory_of_its_own_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reaches all memory of the process, so it is opt-in; `buf` is where the program may put something."""
    reaches = ibv_access_flags.IBV_ACCESS_LOCAL_WRITE | ibv_access_flags.IBV_ACCESS_ON_DEMAND
    with Context(name="iw0") as context:
        pd = PD(context)
        monkeypatch.delenv("PYIWARP_VERBS_IMPLICIT", raising=False)
        with pytest.raises(PyverbsRDMAError) as caught:
            MR(pd, 16, reaches, implicit=True)
        assert caught.value.error_code == errno.EOPNOTSUPP
        monkeypatch.setenv("PYIWARP_VERBS_IMPLICIT", "1")
        region = MR(pd, 16, reaches, implicit=True)
        region.write(b"sixteen octets..", 16)
        assert region.read(16, 0) == b"sixteen octets.."


def test_what_a_parent_domain_is_made_of_says_what_it_has() -> None:
    allowed = mask.IBV_PARENT_DOMAIN_INIT_ATTR_ALLOW_CC_UNPROTECTED_ALLOC
    both = mask.IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT | mask.IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS
    with Context(name="iw0") as context:
        pd = PD(context)
        attr = ParentDomainInitAttr(pd=pd, comp_mask=allowed)
        assert attr.comp_mask == allowed
        assert ParentDomainInitAttr(pd).comp_mask == 0
        inside = ParentDomainContext(pd, lambda *_: 0, lambda *_: None, None)
        assert ParentDomainInitAttr(pd, inside, allowed).comp_mask == allowed | both
        ParentDomain(context, attr).close()
