"""Files and batches: durable rows, leases, workers' results; what a file of rows holds and what is wrong with it."""
