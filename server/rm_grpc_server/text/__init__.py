"""Text: conversations are checked, rendered with the model's chat template, and encoded. No torch here."""
