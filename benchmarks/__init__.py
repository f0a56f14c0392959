"""Measures the service: against the machine's limit, with shared prefixes, without a model, and beside other servers."""
