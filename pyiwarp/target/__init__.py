"""The target program: an iWARP endpoint that does and reports what a conformance tester asks of it, on the verbs API.

docs/target.md has the control protocol, line by line.
"""

from pyiwarp.target.server import Target

__all__ = ["Target"]
