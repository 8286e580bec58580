"""Thin routes: each takes a request apart, calls the store or the reader, and shapes the answer."""
