"""The bench: a raw peer on real TCP that may say anything, and sees all that the other side says.

May import: `codes`, `errors`, `wire`, and its own modules. Read `framing` and `segments` first (octets built and read),
`observed` and `patterns` (what came, what a case expects), then `startup_line` (before Full Operation), `stream` (in
Full Operation), `messages` (whole ones), `control` (the target program's voice) and `testbench` (all of it).
"""
