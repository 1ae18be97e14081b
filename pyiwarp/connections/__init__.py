"""Connections: one queue pair, its posted receives and its memory, with operations that one awaits or calls.

May import: cm, `verbs`, and everything below those. Read `endpoint` first (what both ways of waiting share), then
`awaitable` (the Connection of asyncio) with `serving` (connect, listen, serve), and `blocking` (the Connection that
polls).
"""
