"""The command `rm-grpc`. It stands on server and client, which never import each other."""
