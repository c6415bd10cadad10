"""Trained networks as folders that anybody can load: saved, shipped by name, shared on a hub."""
