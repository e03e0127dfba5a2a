"""The plan of a network: what a data set is like, and what follows from it."""
