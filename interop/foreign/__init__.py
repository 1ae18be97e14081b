"""What the runners of other people's test suites share: `interop.cpython` and `interop.pyverbs`.

A judge is a process that runs tests of unittest and tells each outcome as it comes (`teller`). The runner starts it,
bounds each test in time, and starts another judge for what is left when a test hangs or ends its process (`judged`).
"""
