"""The ecosystem's own programs, unchanged, against this stack."""
