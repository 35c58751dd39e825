"""How the rows of a batch move through a graph: one abstract evaluation, shared by every runtime that has a graph.

A runtime's reader makes a `graph.Model` of its format's graph and registers a rule for each operator
(`walk.Operators`); `walk.Walk` goes through the graph in order. A rule calls the function here that says what becomes
of the rows. Nothing is computed: the sizes of tensors are kept, where the rows lie in them, and the contents of small
integer tensors, of which shapes are made. `walk.batch_analysis` turns what reaches the outputs into a BatchAnalysis.
"""
