"""One table of cases for every client; `cases.yaml` says how to read it."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # or the proxies' grpc tells of every server that goes away
