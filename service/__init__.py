"""The HTTP API around the reader: studies in, analyses in the background, reports out. Imports no torch before a job runs."""
