"""What runs found: their files, fronts and tables."""
