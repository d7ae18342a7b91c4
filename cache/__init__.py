"""Exact, single-flight and semantic caches. Empty until their issue: nothing here is imported yet."""
