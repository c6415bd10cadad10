"""Networks: a genotype as a network, a search space as a supernet."""
