"""Own and general readers side by side on series that were made wrong on purpose."""
