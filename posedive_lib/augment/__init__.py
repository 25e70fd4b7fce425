"""What to generate (diversification, §B), which of it to keep (filtering, §E), and candidates."""
