# Larger tensors are passed on where they are, without a copy.
DEF MAX_COPIED = 65536

cdef uint64_t MAX_NS = 1ull << 62


@cython.final
cdef class StepRequest(Request):
    """A request to the model of a step: what ChildRequests.submit_child makes, for a model that is plain."""

    cdef StepRun run
    cdef Py_ssize_t step

    cdef void settle(self) except *:
        self.settled = True
        self.buffers = None
        admission = self.path.admission
        admission.admitted_bytes -= self.size
        admission.child_bytes -= self.size

    def answer(self, results, Py_ssize_t index):
        if self.settled or not results.final:
            return
        cdef StepRun run = self.run
        self.settle()
        self.run = None
        self.model.finished.append(monotonic() - self.queued_at)
        cdef double seconds = results.queue_ns[index] if type(results) is not Results else (<Results>results).queue[index]
        self.model.waited.append(self.sent_at - self.queued_at + seconds * 1e-9)
        try:
            run.on_answer(self.step, results, index, self.model)
        except Exception as error:
            if run.is_over:
                log.exception("an answer could not be delivered")
            else:
                run.on_error(self.step, error)

    cdef void deliver_error(self, object error) except *:
        cdef StepRun run = self.run
        self.run = None
        run.on_error(self.step, error)


cdef enum StepState:
    WAITING
    UNDER_WAY
    ENDED


@cython.final
cdef class StepRun:
    """Runs the steps of one request, as Run and Pass do (pipeline_run.py), until a step is not as usual: see `hand_over`."""

    cdef Graph graph
    cdef object pipeline
    cdef readonly object queued
    cdef object deadline, identity
    cdef Py_ssize_t id_size
    cdef int priority
    cdef int64_t flow
    cdef tuple outputs
    # Of each tensor: its datatype and shape, and its bytes; None while it does not exist, or after its last use.
    cdef list kinds, data
    cdef list under_way
    cdef int missing[MAX_STEPS]
    cdef int uses[MAX_TENSORS]
    cdef uint8_t states[MAX_STEPS]
    cdef Py_ssize_t left, made
    cdef uint64_t input_ns, infer_ns, output_ns
    cdef bint is_over
    # The Run that has taken over.
    cdef object successor

    def start(self):
        cdef Graph graph = self.graph
        cdef Py_ssize_t step
        for step in range(graph.steps):
            if not self.missing[step] and not self.send(step):
                self.hand_over()
                return

    def acknowledge(self):
        pass

    def forget(self):
        self.is_over = True
        cdef list under_way = self.under_way
        self.under_way = self.kinds = self.data = self.successor = None
        if under_way is not None:
            for each in under_way:
                if each is not None:
                    (<StepRequest>each).run = None
                    (<StepRequest>each).cancel()

    cdef bint send(self, Py_ssize_t step) except -1:
        """Send the request of a step whose inputs exist. Return False, with nothing changed, if that is not as usual."""
        cdef Graph graph = self.graph
        cdef FastPath path = graph.path
        cdef PyObject *entry = PyDict_GetItem(path.known, graph.keys[step])
        if entry == NULL:
            return False
        cdef Model model = path.model_with(<object>entry)
        cdef double now = monotonic(), deadline = min(<double>self.deadline, now + MAX_WAIT_S)
        if not model.usable or model.has_steps or deadline <= now:
            return False
        cdef list kinds = [], buffers = []
        cdef Py_ssize_t number
        cdef bint is_large = False
        for number in <tuple>graph.sources[step]:
            kinds.append(self.kinds[number])
            data = self.data[number]
            if type(data) is not bytes:
                is_large = True
            buffers.append(data)
        cdef StepForm form
        try:
            form = graph.form_of(step, model, kinds, buffers)
        except ModelportError:
            return False  # the Python code finds it again, and counts it
        if form is None:
            return False
        cdef StepRequest request = StepRequest.__new__(StepRequest)
        request.path, request.model, request.run, request.step = path, model, self, step
        request.buffers, request.is_large, request.layout = buffers, is_large, form.layout
        request.rows, request.size = form.rows, form.size + self.id_size
        request.deadline, request.queued_at, request.sent_at = deadline, now, 0
        request.priority = model.servable.status.priority_level(self.priority) if self.priority else model.default_priority
        request.priority |= self.flow << LEVEL_BITS
        request.identity, request.asked_version, request.asked_priority = self.identity, graph.keys[step][1], self.priority
        admission = path.admission
        admission.admitted_bytes += request.size
        admission.child_bytes += request.size
        number = path.requests.last_id + 1
        path.requests.last_id = number
        request.id, request.number = number, number
        self.under_way[step], self.states[step] = request, UNDER_WAY
        for number in <tuple>graph.needs[step]:
            self.uses[number] -= 1
            if not self.uses[number]:
                self.data[number] = None
        model.servable.put(request)
        return True

    cdef void on_answer(self, Py_ssize_t step, object results, Py_ssize_t index, Model model) except *:
        if self.is_over:
            return
        self.under_way[step] = None
        if self.successor is not None:
            self.successor.queued.count_compute(results)
            self.pass_on(step, results, index, model)
            return
        self.input_ns = min(MAX_NS, self.input_ns + min(MAX_NS, <uint64_t>results.compute_input_ns))
        self.infer_ns = min(MAX_NS, self.infer_ns + min(MAX_NS, <uint64_t>results.compute_infer_ns))
        self.output_ns = min(MAX_NS, self.output_ns + min(MAX_NS, <uint64_t>results.compute_output_ns))
        cdef Made made = self.graph.made_of(step, results.outputs, index, rows_of(results.outputs, index))
        if made is None:
            self.hand_over()
            self.pass_on(step, results, index, model)
            return
        self.states[step] = ENDED
        self.left -= 1
        self.take(step, made, results.outputs, index)
        self.pipeline.note_bytes(self.made, False)
        self.go_on(step)

    cdef void pass_on(self, Py_ssize_t step, object results, Py_ssize_t index, Model model) except *:
        """Hand the answer of a step to the successor."""
        tensors = GroupedTensors(results.outputs, index)
        self.successor.on_step(step, InferResponse(model.name, model.version, tensors))

    cdef void on_error(self, Py_ssize_t step, object error) except *:
        if self.is_over:
            return
        self.under_way[step] = None
        if self.successor is not None:
            self.successor.on_step(step, error)
            return
        self.pipeline.fail_step(self.queued, self.graph.plan, step, error)

    cdef void take(self, Py_ssize_t step, Made made, object group, Py_ssize_t index) except *:
        """Keep what a step has made."""
        cdef Graph graph = self.graph
        cdef tuple targets = <tuple>graph.targets[step]
        cdef Py_ssize_t each, number, position, size
        cdef Results own
        for each in range(len(targets)):
            number, position = targets[each], made.positions[each]
            if type(group) is Results:
                own = <Results>group
                size = own.size_of(position, index)
                if size < MAX_COPIED:
                    data = PyBytes_FromStringAndSize(
                        PyBytes_AS_STRING(own.received) + own.start + own.start_of(position, index), size
                    )
                else:
                    data = own.data(position, index, index + 1)
            else:
                data = group.data(position, index, index + 1)
                size = len(data)
                if size < MAX_COPIED:
                    data = bytes(data)
            self.kinds[number], self.data[number] = made.kinds[each], data
            self.made += size

    cdef void go_on(self, Py_ssize_t ended) except *:
        """Send the requests of the steps that have waited for this one, or answer."""
        cdef Graph graph = self.graph
        cdef Py_ssize_t number, step
        cdef bint sent = True
        for number in <tuple>graph.targets[ended]:
            for step in <tuple>graph.consumers[number]:
                self.missing[step] -= 1
                if not self.missing[step] and sent:
                    sent = self.send(step)
        if not sent:
            self.hand_over()
        elif not self.left and not self.finish():
            self.hand_over()

    cdef void hand_over(self) except *:
        """Have Python go on. Steps that are under way report to it through this."""
        cdef Graph graph = self.graph
        cdef Py_ssize_t number
        tensors = {}
        for number in range(len(graph.names)):
            if self.kinds[number] is not None:
                data, name = self.data[number], graph.names[number]
                tensors[name] = None if data is None else Tensor(name, *self.kinds[number], data)
        ended = [number for number in range(graph.steps) if self.states[number] == ENDED]
        under_way = [number for number in range(graph.steps) if self.states[number] == UNDER_WAY]
        spent = self.input_ns, self.infer_ns, self.output_ns
        progress = Progress(tensors, ended, under_way, self.made, spent)
        self.kinds = self.data = None
        self.successor = self.pipeline.take_over(self, graph.plan, progress)

    cdef bint finish(self) except -1:
        """Answer. Return False, with nothing changed, if the Python code must refuse to."""
        cdef Graph graph = self.graph
        cdef list kinds = [], data = []
        cdef Py_ssize_t size = 0, number
        for name in self.outputs:
            number = graph.numbers[name]
            kinds.append(self.kinds[number])
            each = self.data[number]
            if each is None:
                return False
            data.append(each)
            size += len(each)
        if size > self.pipeline.max_response_bytes:
            return False
        self.pipeline.note_bytes(self.made, True)
        self.is_over = True
        queued, pipeline = self.queued, self.pipeline
        spent = self.input_ns, self.infer_ns, self.output_ns
        if type(queued) is AdmittedRequest or size >= MAX_COPIED or len(data) > MAX_INPUTS:
            tensors = [Tensor(name, *kind, each) for name, kind, each in zip(self.outputs, kinds, data)]
            pipeline.finish(queued, tensors, spent)
            return True
        results = joined(graph.answer_of(self.outputs, kinds, data), data, spent, queued.rows)
        pipeline.release(queued)
        queued.answer(results, 0)
        pipeline.metrics.count_results(results, 1, results.batch_rows)
        return True


cdef inline uint64_t rows_of(object group, Py_ssize_t index) except? 0xFFFFFFFFFFFFFFFF:
    if type(group) is Results:
        return (<Results>group).each_rows[index]
    return group.rows[index] if group.by_row else 1
