"""CPython's own socket tests as somebody else's judge of `pyiwarp.sockets`: unchanged, with iWARP below.

`suites` says which classes are run, `source` where they come from, `judge` is the process that runs them, `runs` starts
it and bounds each test in time, `expected` has what may fail and why, `page` writes what readers see.
"""
