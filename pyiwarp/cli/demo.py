def demo() -> None:
    """D."""
