"""What can go wrong beyond a test that fails."""

from interop.errors import InteropError


class NoTests(InteropError):
    """There are no tests to run; the message says why."""
