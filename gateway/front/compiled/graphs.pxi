DEF MAX_STEPS = 64
DEF MAX_TENSORS = 256


@cython.final
cdef class StepForm:
    """What requests to a step's model have in common whose inputs have the same datatypes and shapes."""

    # The version's validator that has found the rest.
    cdef object validator
    cdef object layout
    cdef Py_ssize_t rows, size


@cython.final
cdef class Made:
    """Which of the outputs of a step's model become tensors of the pipeline, in results of one layout."""

    cdef object layout
    # For each tensor that the step makes: its position in the results, and its datatype and shape.
    cdef tuple positions, kinds


@cython.final
cdef class Graph:
    """A Plan (pipeline_plan.py) by the numbers of its tensors, of which the pipeline's inputs come first.

    It is usable if each step runs for each request, so that nothing has to be decided while it does.
    """

    cdef FastPath path
    cdef object plan
    cdef readonly bint usable
    cdef Py_ssize_t steps
    cdef list names
    cdef dict numbers
    # Of each step: the name and version of its model, what it asks the model for, the tensors that are its inputs, the
    # model's names of these, the tensors that it waits for, those that it makes, and the model's names of these.
    cdef list keys, requested, sources, source_names, needs, targets, target_names
    # Of each step, by the kinds of its inputs, and by the layout and rows of results.
    cdef list forms, made
    # Of each tensor: the steps that wait for it.
    cdef list consumers
    cdef int missing[MAX_STEPS]
    cdef int uses[MAX_TENSORS]
    # Layouts of answers, by the names and kinds of their tensors.
    cdef dict answers

    def __init__(self, FastPath path, plan):
        self.path, self.plan = path, plan
        steps = plan.steps
        self.names = [*plan.inputs, *[name for step in steps for name in step.outputs.values()]]
        self.numbers = numbers = {name: number for number, name in enumerate(self.names)}
        self.steps = len(steps)
        self.usable = (
            0 < len(steps) <= MAX_STEPS
            and len(self.names) <= MAX_TENSORS
            and len(numbers) == len(self.names)  # one step makes each
            and not plan.decoupled
            and not any([step.when for step in steps])
            and all([set(step.inputs) <= needed and step.inputs for step, needed in zip(steps, plan.needed)])
            and all([name in numbers for step in steps for name in step.needs])
            and all([name in numbers for name in plan.outputs])
        )
        if not self.usable:
            return
        self.keys = [(step.model, step.version) for step in steps]
        self.requested = list(plan.requested)
        self.sources = [tuple([numbers[name] for name in step.inputs.values()]) for step in steps]
        self.source_names = [tuple(step.inputs) for step in steps]
        self.needs = [tuple([numbers[name] for name in step.needs]) for step in steps]
        self.targets = [tuple([numbers[name] for name in step.outputs.values()]) for step in steps]
        self.target_names = [tuple(step.outputs) for step in steps]
        self.forms, self.made = [{} for _ in steps], [{} for _ in steps]
        self.consumers = [tuple(plan.consumers.get(name, ())) for name in self.names]
        self.answers = {}
        for number, name in enumerate(self.names):
            self.uses[number] = plan.uses.get(name, 0)
        for number in range(len(steps)):
            self.missing[number] = plan.needs[number]

    cdef bint is_ready(self) except -1:
        """Whether the fast path knows the models of all steps at present."""
        if not self.usable:
            return False
        cdef PyObject *entry
        for key in self.keys:
            entry = PyDict_GetItem(self.path.known, key)
            if entry == NULL:
                return False
            model = self.path.model_with(<object>entry)
            if not (<Model>model).usable or (<Model>model).has_steps:
                return False
        return True

    cdef StepForm form_of(self, Py_ssize_t step, Model model, list kinds, list data):
        """Return the form of a request with these inputs; None if they have no rows, so that the model need not run.

        Raises ModelportError if they do not fit the model.
        """
        key = kinds[0] if len(kinds) == 1 else tuple(kinds)
        cdef dict known = <dict>PyList_GET_ITEM(self.forms, step)
        cdef PyObject *entry = PyDict_GetItem(known, key)
        if entry != NULL and (<StepForm>entry).validator is model.validator:
            return <StepForm>entry
        if self.plan.answer_without_rows(step, [shape for _, shape in kinds]) is not None:
            return None
        names = self.source_names[step]
        inputs = [Tensor(name, *kind, each) for name, kind, each in zip(names, kinds, data)]
        name, version = self.keys[step]
        valid = model.validator.check(InferRequest(name, inputs, version, outputs=self.requested[step]))
        cdef StepForm form = StepForm.__new__(StepForm)
        form.validator, form.layout = model.validator, valid.layout
        form.rows, form.size = valid.rows, valid.input_bytes
        # Strings are checked each time; and a layout that the validator does not keep is one that it checks each time.
        if not valid.strings and type(valid.layout) is not tuple:
            if len(known) >= MAX_CACHED:
                known.clear()
            known[key] = form
        return form

    cdef Made made_of(self, Py_ssize_t step, group, Py_ssize_t index, uint64_t rows):
        """Return what the results of a step make; None if an output is missing."""
        layout = group.layout
        cdef dict known = <dict>PyList_GET_ITEM(self.made, step)
        key = (<Py_ssize_t><PyObject *>layout, rows)
        cdef PyObject *entry = PyDict_GetItem(known, key)
        if entry != NULL:
            return <Made>entry
        tensors = group.layout_of(index)[2]
        positions = {each[0]: position for position, each in enumerate(tensors)}
        found = [positions.get(name) for name in self.target_names[step]]
        if None in found:
            return None
        cdef Made made = Made.__new__(Made)
        made.layout, made.positions = layout, tuple(found)
        made.kinds = tuple([(tensors[position][1], tensors[position][2]) for position in found])
        if type(layout) is not tuple:  # the others are too long to be cached, and new in each frame
            if len(known) >= MAX_CACHED:
                known.clear()
            known[key] = made
        return made

    cdef object answer_of(self, tuple names, list kinds, list data):
        """Return the layout of an answer."""
        key = names, tuple(kinds)
        cdef PyObject *entry = PyDict_GetItem(self.answers, key)
        if entry != NULL:
            return <object>entry
        described = [
            (name, kind[0], kind[1], -1 if kind[0] == "BYTES" else len(each))
            for name, kind, each in zip(names, kinds, data)
        ]
        layout = cached(("", (), tuple(described)))
        if len(self.answers) >= MAX_CACHED:
            self.answers.clear()
        self.answers[key] = layout
        return layout


cdef StepRun begin_steps(Graph graph, object pipeline, object queued):
    """Return what runs the steps of a request; None if the Python code must."""
    cdef Request own = None
    if isinstance(queued, Request):
        own = <Request>queued
        record = own.record
    else:
        request = queued.request
        if type(queued) is not AdmittedRequest or queued.parent is not None or request.json:
            return None
        record = request.record
    if not graph.is_ready() or (record is not None and record.traced is not False):
        return None
    cdef StepRun run = StepRun.__new__(StepRun)
    cdef Py_ssize_t count = len(graph.names), number
    cdef tuple layout = <tuple>queued.layout
    run.graph, run.pipeline, run.queued = graph, pipeline, queued
    run.deadline, run.identity = queued.deadline, queued.identity
    run.kinds, run.data, run.under_way = [None] * count, [None] * count, [None] * graph.steps
    run.left = graph.steps
    memcpy(run.missing, graph.missing, graph.steps * sizeof(int))
    memcpy(run.uses, graph.uses, count * sizeof(int))
    memset(run.states, WAITING, graph.steps)
    if own is not None:
        run.id_size = 0 if own.client_id is None else PyBytes_GET_SIZE(own.client_id)
        run.priority = own.asked_priority
        buffers = own.buffers
    else:
        run.id_size, run.priority = len(request.id), request.priority
        buffers = queued.buffers
    run.outputs = tuple(layout[1] or graph.plan.outputs)
    if run.identity is not None and run.identity.usage is not None:
        run.flow = run.identity.usage.flow
    cdef Py_ssize_t inputs = len(buffers)
    if inputs != len(graph.plan.inputs):
        return None  # one of them is optional
    cdef int64_t rows = queued.rows
    for number in range(inputs):
        name, datatype, shape, _ = layout[2][number]
        if -1 in shape:
            shape = tuple([rows if size == -1 else size for size in shape])
        if name not in graph.numbers:
            return None
        which = graph.numbers[name]
        run.kinds[which], run.data[which] = (datatype, shape), buffers[number]
        for step in <tuple>graph.consumers[which]:
            run.missing[step] -= 1
    if record is not None:
        record.has_steps = True
    return run
