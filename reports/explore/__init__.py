"""Design-space exploration: a study file, its points, a search, what it found."""
