"""A conformance tester for any iWARP implementation: a raw peer that may say anything, and what it must see.

Nothing here runs on the stack of this package: only the formats (`wire`), the numbers (`codes`) and the error codes'
names (`errors`) are shared. CRC, markers, startup and numbering have code of their own, so that a mistake of the stack
is not repeated by its judge.

From the bottom up: `tcp` octets and how they end; `framing` FPDUs; `segments` DDP and RDMAP headers; `observed` what
may come and `patterns` what is expected; `testbench` the raw peer; `control` the target program's voice; `case` and
`catalogue` the cases; `runner`, `profiles` and `reports` make verdicts of them. `docs/conformance.md` says how to use
it and how to write a case.
"""
