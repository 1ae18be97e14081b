"""Programs that know nothing of pyiwarp: a server says its port first, a client takes it and prints `done`."""
