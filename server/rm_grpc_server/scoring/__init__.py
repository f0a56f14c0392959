"""Scoring: how rows of hidden states become scores, one file per kind, behind a registry of lazy factories."""
