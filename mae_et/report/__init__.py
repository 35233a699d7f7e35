"""After a run: pictures of what it reconstructs, and any runs on one page.

Imports `build` and what is below it.
"""
