"""Interoperability: other iWARP implementations as peers, and the scenarios run against them."""
