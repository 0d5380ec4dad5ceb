"""API keys and everything about them."""
