"""Operations, search spaces and genotypes: the description of cells as data."""
