"""`gpu`: how much of a card the packed forward uses. Runs where only torch, Transformers and NumPy are installed."""
