"""Memory beyond plain regions: handles whose STag outlives what it stands for, and the log of remote accesses.

May import: `access`, `mr`, `ddp` and the modules below those; nothing of engine or queues. Read `handles` first (STags
that outlive what they stand for; LocalInvalidate), then `paged` (regions over several buffers), `fastreg` (RegMr),
`windows` (BindMw), `atomics` (FetchAdd, CmpSwap), `log` (remote accesses to a region).
"""
