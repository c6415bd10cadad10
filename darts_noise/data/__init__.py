"""Data: a name becomes uint8 images, in memory or in files, splits, and batches on the device.

Nothing in here imports another part of darts_noise, except for errors and settings.
"""
