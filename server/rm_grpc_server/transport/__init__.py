"""Transport: the gRPC service over the engines, with health and reflection."""
