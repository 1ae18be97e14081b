"""Protocols above RDMAP, told apart by what they send: rsockets, the file service, rping, perftest.

Read in this order: `protocols` (what one of them is, and what it reads in a message), then each of them, then `naming`
(which of them a connection carries).
"""
