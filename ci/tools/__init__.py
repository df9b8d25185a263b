"""Pinned programs, one Go module per tool, and their build."""
