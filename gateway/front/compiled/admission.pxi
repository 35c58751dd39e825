cdef class FastPath:
    """What the requests of one front share: they are admitted here, whichever way they came.

    It belongs to one engine; what receives requests asks it for each of them.
    """

    cdef object engine, limits, routes, admission, requests, deadlines
    # See Observer; None if nobody observes requests.
    cdef object observer
    cdef object bucket
    cdef dict timeouts, known
    cdef double timeout_s
    cdef Py_ssize_t max_requests, max_bytes, share
    # Whether connections stay open.
    cdef public bint keep_alive
    cdef dict models
    cdef Http http

    def __init__(self, engine, limits, observer=None):
        if type(engine.frames) is not Frames:
            raise TypeError("the engine of a fast path must have its Frames")
        self.engine, self.limits, self.observer = engine, limits, observer
        self.routes, self.admission, self.requests = engine.routes, engine.admission, engine.requests
        self.deadlines = self.requests.deadlines
        self.known = self.routes.known
        limits = self.admission.limits
        self.timeout_s, self.max_requests, self.max_bytes = limits.timeout_s, limits.max_requests, limits.max_bytes
        self.share = limits.share
        self.keep_alive = True
        engine.begin_steps = self.begin_steps
        self.bucket = self.deadlines.bucket(self.timeout_s)
        self.timeouts = self.bucket.items
        self.models = {}

    def serve_http(self, shared, at_boundary):
        """`at_boundary`: the state of a connection between two requests."""
        self.http = Http(self, shared, at_boundary)

    def receiver(self, connection):
        return Receiver(connection, self.http)

    def calls(
        self, reader, writer, dict handles, list answers, respond, fail, Py_ssize_t max_size, dict known_headers,
        begin_record=None, end_record=None,
    ):
        return Calls(
            self, reader, writer, handles, answers, respond, fail, max_size, known_headers, begin_record, end_record
        )

    def begin_steps(self, pipeline, plan, queued):
        """See BeginSteps in pipeline_compiled.py."""
        return begin_steps(self.graph_of(plan), pipeline, queued)

    cdef Graph graph_of(self, plan):
        graph = plan.graph
        if graph is None:
            graph = plan.graph = Graph(self, plan)
        return <Graph>graph

    cdef Model model_of(self, tuple name):
        """Return the model of this name and version. Return None if the Python code must find it, or reject requests."""
        cdef PyObject *entry = PyDict_GetItem(self.known, name)
        if entry == NULL or self.engine.draining:
            return None
        cdef Model model = self.model_with(<object>entry)
        return model if model.usable else None

    cdef Model model_with(self, object servable):
        """Return the model of a servable of a plain version."""
        cdef PyObject *entry = PyDict_GetItem(self.models, servable)
        cdef Model model
        if entry == NULL or (<Model>entry).validator is not servable.validator:
            servables = set(self.routes.servables())
            for each in [each for each in self.models if each not in servables]:
                del self.models[each]
            model = Model(servable)
            self.models[servable] = model
        else:
            model = <Model>entry
        return model

    cdef bint admit(
        self,
        Request request,
        Model model,
        object asked_version,
        Form form,
        Py_ssize_t string_bytes,
        double timeout_s,
        int priority,
        object identity,
    ) except -1:
        """Do what FrontEngine.submit does, if nothing is in the way. Otherwise return False, with nothing changed.

        asked_version  as the client named it
        timeout_s  the time until the request's deadline; 0 for the default
        priority   which the client chose; 0 for the default
        identity   who sent it, and may do so; None if that is not known
        """
        if model.has_steps and (form.has_own or not self.graph_of(model.servable.plan).is_ready()):
            return False
        if form.validator is not model.validator:
            valid = model.validator.known(form.layout)
            if valid is None:
                return False
            form.validator, form.layout_in_frames = model.validator, valid.layout
            form.rows, form.input_bytes = valid.rows, valid.input_bytes
        cdef double now = monotonic()
        admission = self.admission
        cdef Py_ssize_t size = form.input_bytes + string_bytes
        if request.client_id is not None:
            size += PyBytes_GET_SIZE(request.client_id)
        request.default_timeout = timeout_s == 0
        request.deadline = now + (self.timeout_s if timeout_s == 0 else min(timeout_s, MAX_WAIT_S))
        cdef Py_ssize_t requests = admission.requests, admitted = admission.admitted_bytes
        if requests >= self.max_requests or admitted + size > self.max_bytes:
            return False
        # Requests that were cancelled count for their model until the worker has ended them, so `requests` may be fewer.
        if not self.routes.only_model and model.servable.under_way >= self.share:
            return False
        admission.requests = requests + 1
        admission.admitted_bytes = admitted + size
        usage = None if identity is None else identity.usage
        cdef Tally tally = None
        if usage is not None:
            tally = usage.tally
            if not tally.admits_now(size, requests + 1, admitted + size, now) and not usage.admits(size):
                admission.requests = requests
                admission.admitted_bytes = admitted
                return False
        request.identity, request.tally = identity, tally
        number = self.requests.last_id + 1
        self.requests.last_id = number
        request.number = number
        request.id, request.size, request.rows, request.layout = number, size, form.rows, form.layout_in_frames
        request.queued_at, request.sent_at = now, 0
        request.priority, request.asked_priority = model.default_priority, priority
        if priority:
            request.priority = model.servable.status.priority_level(priority)
        if tally is not None:
            request.priority |= tally.flow << LEVEL_BITS  # as fair_order.priority_of
        request.path, request.model, request.asked_version = self, model, asked_version
        request.settled = request.answered = False
        if request.default_timeout and self.bucket.armed:
            self.timeouts[number] = request
        else:
            self.deadlines.add(request, self.timeout_s if timeout_s == 0 else None)
        return True
