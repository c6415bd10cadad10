"""Networks: discrete networks of genotypes, and supernets of search spaces."""
