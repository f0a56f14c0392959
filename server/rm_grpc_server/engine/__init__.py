"""The engine: entries wait in a queue, become batches under a token budget, and are scored by a replica."""
