"""Code of the administrator's own, in processes of its own: a template module, and commands around a task's pod."""
