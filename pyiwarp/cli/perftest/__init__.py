"""perftest's protocol with -R, as client and server.

Read in this order: `names` of the tests, `exchange` (the control connection), `endpoint` (a queue pair with awaited
completions), `runs` (the tests on the data connections), `session` (all steps in order), `figures` (the results).
"""
