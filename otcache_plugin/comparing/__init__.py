"""Methods side by side on one model: what is measured, and the report."""
