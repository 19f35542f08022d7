"""Layer-wise relevance propagation of CNNs: the net in the form that its rules need, and the rules."""
