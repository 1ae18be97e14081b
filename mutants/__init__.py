"""Mutation testing: small breakages of the package, each run against the tests that execute the broken function.

The breakages are those of mutmut's operators, with a few of our own (`breakages`). mutmut's own runner leaves out
decorated functions, and whatever stands outside functions, such as the defaults of a NamedTuple; so the runner is ours.
Which tests execute which function is measured with coverage.py, their child processes included (`measuring`). Each
breakage is made in a copy of the repository, and the tests run there in a forked process with a time limit (`judging`).

    python -m mutants pyiwarp/mr.py --sample 20 --seed 7
"""
