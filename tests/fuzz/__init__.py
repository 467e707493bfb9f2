"""Damaged input by the thousand, and interruptions: outside `make test`, which keeps a few cases of each format."""
