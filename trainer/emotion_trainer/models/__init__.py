"""Networks: the families, warm starts and predictions."""
