"""One module each, in the folders of the packages: the fast tier."""
