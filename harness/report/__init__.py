"""What a run leaves behind: report.yaml, and index.html drawn from it alone.

RunRecord -> document (plain data) -> report.yaml, index.html
"""
