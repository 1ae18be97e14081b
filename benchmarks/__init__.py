"""Programs that measure pyiwarp beside what else could be used; see README.md here."""
