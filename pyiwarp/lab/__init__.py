"""A laboratory for learners: a raw peer, which may send any octets, and a real endpoint, joined in memory.

No socket and no clock is used, and STags can be foreseen, so the same words always have the same octets. Read `joint`
first (what stands for TCP), then `endpoint` (the verbs objects of the real side), `rawpeer` (octets built by the RFCs'
fields), `shown` (what happened, in words), `laboratory` (both sides and what was seen), `exercises` with `flaws` (peers
that break a rule, to be found) and `prompt` (the names at the prompt, and how its lines are run).
"""
