"""What can go wrong with an interop run beyond a scenario that fails."""


class InteropError(Exception):
    """Any error of the suite's own."""
