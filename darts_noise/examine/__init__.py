"""Examine trained networks: certificates and attacks."""
