"""The bench: a raw peer on TCP that can send any octets and records all that it receives.

May import: `codes`, `errors`, `wire`, and its own modules. Read `framing` and `segments` first (octets built and read),
`observed` and `patterns` (what came, what a case expects), then `startup_line` (before Full Operation), `stream` (in
Full Operation), `messages` (whole ones), `control` (commands to the target program) and `testbench` (all of it).
"""
