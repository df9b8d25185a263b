"""What developers and CI run on their own machines: tools, the local cluster, images."""
