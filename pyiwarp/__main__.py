"""`python -m pyiwarp` is the `pyiwarp` command."""

from pyiwarp.cli import main

if __name__ == "__main__":
    main()
