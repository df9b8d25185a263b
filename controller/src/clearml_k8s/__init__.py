"""Runs ClearML tasks as Kubernetes Jobs."""
