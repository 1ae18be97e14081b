"""Fuzzing: what a peer, a file or a control connection may say, as functions of octets that must not fail.

`targets` has one function for each. `python -m tests.fuzz` lets atheris search for octets that make one fail; `corpus/`
has what it begins with. `test_fuzz` runs the corpus without atheris.
"""
