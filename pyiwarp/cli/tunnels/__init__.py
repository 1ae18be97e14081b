"""`pyiwarp tunnel`: `place` (where an end is, and of which kind), `join` (two ends of one client), `server`."""
