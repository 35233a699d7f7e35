"""Whole runs and commands: alone, in processes of their own, resumed, and with bad input."""
