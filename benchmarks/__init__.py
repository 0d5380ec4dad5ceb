"""What is claimed about speed and counting, runnable."""
