"""Save, load and share trained networks: bundles in folders, in the package and on the Hub."""
