"""Connections: one queue pair, its posted receives and its memory, with operations that one awaits or calls.

May import: cm, `verbs`, and everything below those. Read `requests` first (the work request of each operation), then
`endpoint` (what both ways of waiting share), `awaitable` (the Connection of asyncio) with `serving` (connect, listen,
serve), and `blocking` (the Connection that polls).
"""
