"""What keeps a server from starting. Failures of requests are in `rm_grpc.errors`."""


class StartupError(Exception):
    """The server cannot start as it was asked to; the message names the setting and the way out."""


class ConfigError(StartupError):
    """A setting that is unknown, or that cannot be."""


class ModelLoadError(StartupError):
    """A model that cannot be served rightly."""
