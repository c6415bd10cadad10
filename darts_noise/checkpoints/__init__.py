"""Checkpoints: a stopped run resumes from them with the same results as an unbroken run."""
