"""The API of the ClearML server: async, a deadline on every call, three endings (see `clearml_k8s.errors`)."""
