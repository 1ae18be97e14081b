"""iWARP in userspace."""
