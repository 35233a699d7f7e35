"""After a run: pictures of what it reconstructs, and any set of runs compared on one page.

Imports `build` and the packages below it.
"""
