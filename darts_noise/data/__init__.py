"""Data: load images by name, split them and make batches on the device.

This folder imports no other part of darts_noise except the errors and the settings.
"""
