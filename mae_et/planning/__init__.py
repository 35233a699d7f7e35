"""Plan a run: what it will cost, and which input sizes its stages should have.

Imports everything but `commands`.
"""
