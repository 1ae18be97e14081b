"""A session told: from a capture to what each octet means, and why it was sent.

Read in this order: `packets` (TCP segments out of a capture), `reassembly` (what TCP delivered), `story` (connections,
messages, their causes), `ladder` (the terminal), `records` (JSON), `page` (the browser), `demos` (sessions to look at).
"""
