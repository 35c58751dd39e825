"""Follows the rows of a batch through a graph, by abstract interpretation. All runtimes that read a graph share it.

A runtime's reader converts its format's graph to a `graph.Model` and registers a rule for each operator
(`walk.Operators`). `walk.Walk` visits the operators in order. A rule calls the function of this package that determines
what happens to the rows. Nothing is computed: the analysis keeps the sizes of tensors, the dimension that the rows are
in, and the contents of small integer tensors, because these become shapes. `walk.batch_analysis` turns the values of
the outputs into a BatchAnalysis.
"""
