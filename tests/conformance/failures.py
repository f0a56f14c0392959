"""How a case ends early."""

from __future__ import annotations


class CaseFailedError(Exception):
    """A program did not do what the case expects."""


class CaseSkippedError(Exception):
    """The case cannot be run here."""
