"""One module a command: its options are parsed here, and what it does is imported after that.

May import everything but `__main__`; nothing heavy (torch, timm, datasets) before the options are
known to be good.
"""
