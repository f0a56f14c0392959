"""Real parts for the tests: tiny checkpoints in the real formats, and real servers over loopback."""
