"""Container images: the base made from Debian packages, the controller's, and the tests' task image."""
