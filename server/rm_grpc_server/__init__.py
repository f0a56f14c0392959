"""The server of rm-grpc: text, models, scoring, engine and transport, each importing only what stands below it."""
