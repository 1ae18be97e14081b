"""`python -m tests.sim --seeds 1000 --from 0`: one world after the other; the seeds that fail are printed."""

from __future__ import annotations

import argparse
import time
import traceback

from tests.sim.world import World


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=(__doc__ or "").strip())
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds (default 1000)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed (default 0)")
    options = parser.parse_args(arguments)
    began, failed = time.monotonic(), []
    for seed in range(options.first, options.first + options.seeds):
        try:
            World(seed).run()
        except Exception:
            failed.append(seed)
            print(f"seed {seed} failed:\n{traceback.format_exc()}", flush=True)
    print(f"{options.seeds} worlds in {time.monotonic() - began:.0f} s, {len(failed)} failed {failed or ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
