"""Report on runs: pictures of what they reconstruct, and any set of runs compared on one page.

Imports `build` and the packages below it.
"""
