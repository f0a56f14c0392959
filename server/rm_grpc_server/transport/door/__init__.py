"""Who may come in: encryption, certificates and tokens, the same for gRPC and HTTP."""

from rm_grpc_server.transport.door.certificates import Certificates
from rm_grpc_server.transport.door.tokens import Tokens

__all__ = ["Certificates", "Tokens"]
