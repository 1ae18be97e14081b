"""What a program finds of itself, as JSON."""

import json
import sys

import __main__

found = vars(__main__)
spec = found.get("__spec__")
loader = found["__loader__"]
print(
    json.dumps(
        {
            "argv": sys.argv,
            "path": sys.path,
            "names": sorted(found),
            "file": found.get("__file__"),
            "cached": found.get("__cached__"),
            "package": found.get("__package__"),
            "spec": spec and [spec.name, spec.origin, spec.parent],
            "loader": loader.__name__ if isinstance(loader, type) else type(loader).__name__,
            "doc": __doc__,
            "is main": sys.modules["__main__"] is __main__ and __name__ == "__main__",
            "flags": [sys.flags.optimize, sys.flags.safe_path, sys.dont_write_bytecode],
            "typer is loaded": "typer" in sys.modules,
        }
    )
)
