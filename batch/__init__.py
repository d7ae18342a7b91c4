"""Files and batches: durable rows, leases, planner, workers. Empty until their issue."""
