"""Code that the scripts share; the scripts beside this package are the commands."""
