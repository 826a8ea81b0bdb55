"""Models: sentence encoder, towers, conditioning, and the language models that answer."""
