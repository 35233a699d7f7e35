"""What the scripts share; the scripts beside this package are its commands."""
