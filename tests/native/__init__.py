"""The native encoder against Hugging Face's: real tokenizers, documents and fuzz, and the definition in Python."""
