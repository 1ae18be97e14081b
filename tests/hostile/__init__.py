"""Hostile clients against servers of each driver, over TCP on this machine: programs for long runs, and short tests.

Read in this order: `server` (what is attacked, a process of its own), `sessions` (what clients send), `bits` (sessions
cut at every octet and with every bit flipped), `soak` (good and hostile clients for a long time).
"""
