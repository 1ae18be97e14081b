"""A stand-in for pyverbs, rdma-core's Python binding: its modules and classes, served by this package over TCP.

`import pyiwarp.pyverbs` and `pyiwarp run --pyverbs` have it; an installed pyverbs stays what it is. Modules, names,
defaults and the order of arguments are pyverbs'; what does not exist in iWARP is refused with EOPNOTSUPP.

May import: the public names of the package, `blocking`, `verbs`, `errors`, `codes`; nothing that begins with an
underscore. Read `core` first (the one poller of the process, its thread, forks), then `rendezvous` (how two queue pairs
find each other), `connecting` (until they are connected), `link` (what is below a queue pair), `translating` (work
requests and completions), then the modules of pyverbs: `base`, `device`, `pd`, `mr`, `cq`, `wr`, `qp`, `srq`.
"""

from __future__ import annotations

from pyiwarp.pyverbs.installing import install

__all__ = ["install"]
