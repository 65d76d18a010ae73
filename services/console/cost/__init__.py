"""What computing costs: price lists, the nodes that Prometheus saw, and each job's share."""
