"""What librdmacm's programs on rsockets say to each other.

rstream: `rolling` (its octets), `figures` (its tests and its table), `rstream` (the dialogue). rcopy: `rcopy` (its
messages and the client), `rcopy_server`.
"""
