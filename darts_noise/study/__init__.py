"""A study: searches, seeds and controls, all trained and measured alike, in one command."""
