"""What any study needs: run records, notebooks, figures, tables, statistics and costs."""
