"""Transport over HTTP: the faces of other reward servers, and one of our own, over the same engines as gRPC."""
