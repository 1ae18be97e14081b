"""The cases, one module for each part of an RFC, found by their names: `rfcNNNN_*`.

May import: `case`, the bench, `codes`, `errors`, `wire`; no case imports another, `refusals` and `deliveries` hold what
several share. Read them in the order of `catalogue`: from the bottom of the stack up.
"""
