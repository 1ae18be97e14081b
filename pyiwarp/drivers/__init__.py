"""Drivers: what moves octets between TCP sockets and a pump, with asyncio or without.

May import: `pump`, `capture`, `buffers`, `errors`, `forks`, and nothing else of the stack. Read `tcp` first (what both
ask of TCP beyond octets), then `asyncio_driver`, then `poller` (the sockets of one thread) with `polling_driver`, and
`interrupts` (Ctrl-C that waits until the stack is whole).
"""
