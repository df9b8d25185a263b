"""A Kubernetes node on this machine from its real parts; see `python3 -m ci.cluster --help`."""
