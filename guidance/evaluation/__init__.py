"""From a net and a split to numbers: rows, scores of maps, metrics."""
