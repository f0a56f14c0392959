"""Models: a checkpoint folder, what is loaded from it, and the padding-free forward pass over a packed batch."""
