"""`python -m benchmarks NAME`."""

from __future__ import annotations

import sys
from importlib import import_module

from benchmarks.stand_ins import import_from_checkout


def main() -> None:
    """Runs one benchmark; `gpu` has a command line of its own, because it needs none of the service's packages."""
    if "gpu" in sys.argv[1:]:
        import_from_checkout()
        import_module("benchmarks.gpu.benchmark").main()
    else:
        import_module("benchmarks.command").main(prog_name="python -m benchmarks")


if __name__ == "__main__":
    main()
