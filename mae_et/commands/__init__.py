"""The commands, one per module, which parse their options before they import what does the work.

May import everything but `__main__`, but nothing heavy (torch, timm, datasets) before the options
are known to be valid.
"""
