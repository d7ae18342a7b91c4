"""What the benchmarks stand on: processes, gateways, loads, tables and plots."""
