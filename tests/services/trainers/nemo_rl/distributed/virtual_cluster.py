import sys


class PY_EXECUTABLES:  # noqa: N801 - the name in the source
    SYSTEM = sys.executable
