"""Code of the administrator's own that changes pod templates, in a process of its own."""
