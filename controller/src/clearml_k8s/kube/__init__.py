"""The API of Kubernetes: raw dicts over the official client's configuration, TLS and connection pool."""
