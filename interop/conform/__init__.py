"""The conformance tester against Linux siw: cases in guests, results, and the page docs/siw-conformance.md."""
