"""Attacks: small changes of images that change the class of a network.

All take pixels from 0 to 1 and return pixels from 0 to 1. The network contains the normalisation.
"""
