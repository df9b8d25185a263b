"""The way of a task: from its queue to its end."""
