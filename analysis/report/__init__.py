"""The HTML report: figures, tables, gallery, page."""
