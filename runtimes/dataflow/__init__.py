"""How the rows of a batch move through a graph: one abstract evaluation, shared by every runtime that has a graph.

A runtime's reader walks its graph in order, and calls for each operator the function here that says what becomes of
the rows. Nothing is computed: the sizes of tensors are kept, where the rows lie in them, and the contents of small
integer tensors, of which shapes are made. `verdict.analysis` turns what reaches the outputs into a BatchAnalysis.
"""
