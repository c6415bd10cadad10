"""All measurements that need a GPU, in one command of eight minutes.

    python -m benchmarks.gpu.pack --cifar10 cifar10-jpeg.tar.xz  # before, on a machine with network
    python -m benchmarks.gpu                                     # on the machine with the GPU
    python -m benchmarks.gpu --device cpu --tiny                 # tries every part on a CPU

The second command needs no network: it installs the packed wheels of packages that are missing, and
unpacks the packed images. Each part runs in a process of its own with a time limit, so that a part
that hangs or dies costs only itself. Whatever has been measured is on disk at once.

Adding a part: a module of this folder with ``measure(task)``, and a line in ``__main__.PARTS``.
"""
