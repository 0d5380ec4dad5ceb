"""The peers that benchmarks/verify.py measures beside keyadmin, each in its best configuration."""
