"""Operations, search spaces and genotypes: what a cell can be, as data."""
