"""The claims of the papers, judged by the runs of an experiment."""
