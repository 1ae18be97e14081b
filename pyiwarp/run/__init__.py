"""What `pyiwarp run` does: a Python program that knows nothing of iWARP, with its TCP sockets over iWARP.

The command starts Python anew, so that the program finds the interpreter as `python` would have left it. `orders` is
what the command tells that process; `process` is what the process does; `program` runs the program as `python` does;
`report` says which sockets stayed TCP.
"""

from __future__ import annotations
