cdef class Model:
    """A Servable and what is needed of it for each request, until its status changes."""

    cdef object servable, validator, metrics, name, version
    cdef list finished, waited
    cdef bint usable, has_steps
    cdef int default_priority
    # For each kind of answer, texts by the address of their layout, which they keep, and the rows.
    cdef list texts

    def __init__(self, servable):
        status = servable.status
        self.servable, self.validator, self.metrics = servable, servable.validator, servable.metrics
        self.finished, self.waited = self.metrics.finished, self.metrics.waited
        self.name, self.version = status.name, status.version
        self.usable = status.admits and not servable.target_s
        self.has_steps = bool(status.steps)
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
    # The priority that the client chose; 0 for the default.
    cdef int asked_priority

    @property
    def context(self):
        return b""  # the compiled path knows plain models only

    @property
    def own(self):
        """What a pipeline's steps need besides: the client's id and priority, and the record."""
        return self.client_name(), self.asked_priority, self.record

    cdef str client_name(self):
        return "" if self.client_id is None else self.client_id.decode()

    cdef void settle(self) except *:
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
        """Return an answer for the Python code to write. A pipeline answers with a list of tensors."""
        tensors = group if type(group) is list else GroupedTensors(group, index)
        return InferResponse(self.model.name, self.model.version, tensors, self.client_name())

    cdef void deliver(self, Results results, Py_ssize_t index, double now) except *:
        raise NotImplementedError

    cdef void deliver_slowly(self, object group, Py_ssize_t index) except *:
        """Let the Python code write an answer."""
        raise NotImplementedError

    cdef void deliver_error(self, object error) except *:
        raise NotImplementedError
