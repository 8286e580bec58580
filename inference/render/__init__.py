"""What people open: key images, the report as a page, as a PDF and as text. Rendered from the report and its pictures only.

Nothing is computed here that the report does not say; positions on the pictures come from its points in LPS millimetres.
"""
