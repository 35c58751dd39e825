cdef class Model:
    """A Servable and what is needed of it for each request, until its status changes."""

    cdef object servable, validator, metrics, name, version
    cdef list finished, waited
    cdef bint usable
    cdef int default_priority
    # For each kind of answer, texts by the address of their layout, which they keep, and the rows.
    cdef list texts

    def __init__(self, servable):
        status = servable.status
        self.servable, self.validator, self.metrics = servable, servable.validator, servable.metrics
        self.finished, self.waited = self.metrics.finished, self.metrics.waited
        self.name, self.version = status.name, status.version
        self.usable = status.admits and not servable.target_s
        self.default_priority = status.default_priority_level
        self.texts = [{} for _ in range(KINDS)]

    cdef Texts known_texts(self, Kind kind, Results group, Py_ssize_t member):
        cdef dict known = <dict>PyList_GET_ITEM(self.texts, kind)
        cdef PyObject *entry = PyDict_GetItem(known, (<Py_ssize_t><PyObject *>group.layout, group.rows_of(member)))
        return None if entry == NULL else <Texts>entry

    cdef Texts remember(self, Kind kind, Texts texts, uint64_t rows):
        """Keep texts where `known_texts` finds them."""
        cdef dict known = <dict>PyList_GET_ITEM(self.texts, kind)
        if type(texts.layout) is not tuple:  # the others are too long to be cached, and new in each frame
            if len(known) >= MAX_CACHED:
                known.clear()
            known[(<Py_ssize_t><PyObject *>texts.layout, rows)] = texts
        return texts


@cython.freelist(256)
cdef class Request:
    """A QueuedRequest (servable.py)."""

    # What counts the request for `identity` until it is settled; None if nothing does.
    cdef Tally tally
    cdef readonly object id, layout, identity
    cdef uint64_t number
    cdef readonly Py_ssize_t rows, size
    cdef readonly double deadline, queued_at
    cdef readonly int64_t priority
    cdef public double sent_at
    cdef public int crashes
    cdef public object worker
    cdef public bint answered
    cdef readonly bint settled
    # Whether its inputs are parts of a large body, which is a block of the arena; otherwise, they are bytes.
    cdef bint is_large
    # The bytes of its inputs, in the order of the layout; None once it is settled.
    cdef readonly list buffers
    cdef FastPath path
    cdef Model model
    cdef bint default_timeout
    # The bytes of its inputs that are strings.
    cdef Py_ssize_t string_bytes
    # The id that the client chose, as bytes of a JSON string without escapes.
    cdef bytes client_id
    # See RequestRecord; None if nobody observes the request.
    cdef public object record
    # The version, as the client named it.
    cdef readonly object asked_version

    @property
    def context(self):
        return b""  # the compiled path knows plain models only

    cdef inline void settle(self) except *:
        """Do what AdmittedRequests.settle does, except that the servable keeps the request."""
        self.settled = True
        self.buffers = None
        cdef Tally tally = self.tally
        if tally is not None:
            self.tally = None
            tally.end(self.size)
        admission = self.path.admission
        cdef Py_ssize_t left = admission.requests - 1
        admission.requests = left
        admission.admitted_bytes -= self.size
        if not left:
            admission.on_idle()
        if self.default_timeout:
            self.path.timeouts.pop(self.id, None)  # it is not there if its deadline has passed
        else:
            self.path.deadlines.remove(self, None)

    def fail(self, error):
        if self.settled:
            return
        self.settle()
        self.model.servable.release(self)
        self.model.metrics.count(error.kind, monotonic() - self.queued_at)
        if self.record is not None:
            self.record.settle(self.model.version, self.queued_at, self.sent_at)
            self.record.outcome = error.kind
        try:
            self.deliver_error(error)
        except Exception:
            log.exception("an answer could not be delivered")

    def move(self, servable):
        """See servable.py."""
        if self.settled:
            return False
        cdef Model model = self.path.model_with(servable)
        if not model.usable:
            return False
        try:
            valid = model.validator.check(as_request(model.name, self))
        except ModelportError:
            return False
        self.model, self.rows, self.layout = model, valid.rows, valid.layout
        return True

    def cancel(self):
        if self.settled:
            return
        self.settle()
        self.model.servable.release(self)
        self.model.metrics.count("cancelled", monotonic() - self.queued_at)
        if self.record is not None:
            self.record.settle(self.model.version, self.queued_at, self.sent_at)

    def answer(self, results, Py_ssize_t index):
        """See servable.py."""
        if self.settled or not results.final:  # a unary call has one answer, and earlier ones are dropped
            return
        cdef double now = monotonic()
        self.settle()
        self.model.finished.append(now - self.queued_at)
        cdef double seconds = results.queue_ns[index] if type(results) is not Results else (<Results>results).queue[index]
        self.model.waited.append(self.sent_at - self.queued_at + seconds * 1e-9)
        if self.record is not None:
            self.record.settle(self.model.version, self.queued_at, self.sent_at)
            self.record.compute(results, index)
        try:
            if type(results) is Results:
                self.deliver(<Results>results, index, now)
            else:
                self.deliver_slowly(results.outputs, index)
        except Exception:
            log.exception("an answer could not be delivered")

    cdef object response(self, object group, Py_ssize_t index):
        """Return an answer for the Python code to write."""
        name = "" if self.client_id is None else self.client_id.decode()
        return InferResponse(self.model.name, self.model.version, GroupedTensors(group, index), name)

    cdef void deliver(self, Results results, Py_ssize_t index, double now) except *:
        raise NotImplementedError

    cdef void deliver_slowly(self, object group, Py_ssize_t index) except *:
        """Let the Python code write an answer."""
        raise NotImplementedError

    cdef void deliver_error(self, object error) except *:
        raise NotImplementedError


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
        request.priority = model.default_priority
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
