"""A conformance tester for any iWARP implementation: a raw peer that may say anything, and what it must see.

Nothing here runs on the stack of this package: only the formats (`wire`), the numbers (`codes`) and the error codes'
names (`errors`) are shared. CRC, markers, startup and numbering have code of their own, so that a mistake of the stack
is not repeated by its judge.

Read `bench/` first, the raw peer; then `case` (what a case is), `clauses` (what the RFCs demand) and `catalogue` (which
cases there are), and any module of `cases/`; then `probe` (is there an endpoint at all?), `runner`, `results`,
`profiles` and `junit`, which make verdicts of them. It may import `codes`, `errors` and `wire`, and only the command
line and the laboratory import it. `docs/conformance.md` says how to use it and how to write a case.
"""
