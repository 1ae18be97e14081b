"""What can go wrong with an interop run beyond a scenario that fails."""


class InteropError(Exception):
    """Any error of the suite's own."""


class PeerUnavailable(InteropError):
    """No peer of a kind can be had, so no scenario with this kind can be run."""
