"""Examine how and what a network memorises, and how robust a trained network is."""
