"""How runs are executed: one as it is submitted, where it is submitted to, and all of them in their order."""
