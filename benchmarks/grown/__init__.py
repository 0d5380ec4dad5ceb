"""A database as it is after years of use, of any size, for the benchmarks of lists and of usage."""
