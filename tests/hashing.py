"""Passwords of tests are hashed as those of people are, with less work."""

from django.contrib.auth.hashers import Argon2PasswordHasher


class QuickArgon2PasswordHasher(Argon2PasswordHasher):
    """Argon2id over 64 KiB once, which takes next to no time: most of a sign-in's was that of the hash."""

    time_cost = 1
    memory_cost = 64
    parallelism = 1
