"""What justifies an alert, a module a group of kinds; ``run`` looks for all of them, ``preview`` looks back."""
