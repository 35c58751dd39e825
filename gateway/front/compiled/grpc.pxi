@cython.final
cdef class GrpcRequest(Request):
    """A unary call of ModelInfer."""

    cdef Calls calls
    cdef object call

    cdef Calls end(self):
        """End the request, and return where its answer goes."""
        cdef Calls calls = self.calls
        self.calls = None
        return calls

    cdef void deliver(self, Results group, Py_ssize_t index, double now) except *:
        cdef Calls calls = self.end()
        try:
            calls.answer(self, group, index)
        except Exception as error:
            calls.fail(self.call, error)

    cdef void deliver_slowly(self, object group, Py_ssize_t index) except *:
        self.end().answer_slowly(self, group, index)

    cdef void deliver_error(self, object error) except *:
        self.end().fail(self.call, error)


@cython.final
cdef class Calls:
    """The unary calls of ModelInfer at one server.

    reader, writer  of its messages
    handles   the calls in progress, each with what can be cancelled
    answers   (call, message) of this turn of the event loop; `respond` is called when the first has been added
    fail      is called with a call and its error, or a message that is too long
    begin_record, end_record  called if anyone observes calls: see NativeServer
    max_size  the bytes of the longest answer
    known_headers  see Access
    """

    cdef FastPath path
    cdef dict handles
    cdef list answers
    cdef object respond, fail, reader, writer, forms, begin_record, end_record
    cdef Py_ssize_t max_size
    # The fields of the last message that name the model and its version, and these names.
    cdef bytes named
    cdef tuple model
    cdef dict known_headers
    # Whoever was last allowed to use a model, and which.
    cdef object allowed
    cdef tuple allowed_model

    def __init__(
        self, FastPath path, reader, writer, dict handles, list answers, respond, fail, Py_ssize_t max_size,
        dict known_headers, begin_record, end_record,
    ):
        self.known_headers = known_headers
        self.begin_record, self.end_record = begin_record, end_record
        self.reader, self.writer = reader, writer
        self.path, self.handles, self.answers, self.respond, self.fail = path, handles, answers, respond, fail
        self.max_size = max_size
        self.forms = BoundedCache(MAX_CACHED)
        self.named = b""
        self.model = ("", "")

    def known_identity(self, metadata):
        """Return whose credentials these are, or None if Access must say."""
        cdef object header = None, name, each, identity
        cdef PyObject *entry
        for each in metadata:
            if type(each) is not tuple:
                return None
            name = <object>PyTuple_GET_ITEM(each, 0)
            if name == "authorization" or name == "x-api-key":
                if header is not None:
                    return None
                header = each
        if header is None:
            return None
        entry = PyDict_GetItem(self.known_headers, header)
        if entry == NULL:
            return None
        identity = <object>entry
        return identity if is_valid(identity) else None

    def take(self, call, bytes message, seconds, identity, tuple context=()):
        """Take a call with this message and, unless it is None, this time until its deadline.

        identity  who sent it; None if everything is allowed
        context   if anyone observes requests: the number of the method, the peer, and the metadata

        Return False if the Python code must look at it.
        """
        cdef const char *start = PyBytes_AS_STRING(message)
        cdef const char *position = start
        cdef const char *end = start + PyBytes_GET_SIZE(message)
        cdef const char *field
        cdef Py_ssize_t size
        if end - start > MAX_MESSAGE:
            return False
        # The fields must be in the order of their numbers, as all common libraries write them: see grpc_message.py.
        position = skip_field(position, end, 0x0A)
        position = skip_field(position, end, 0x12)
        cdef Py_ssize_t named_size = position - start
        if named_size != PyBytes_GET_SIZE(self.named) or memcmp(start, PyBytes_AS_STRING(self.named), named_size):
            if not self.name(start, position):
                return False
        cdef bytes client_id = None
        field = read_field(&position, end, 0x1A, &size)
        if field != NULL and size:
            if not is_plain_text(field, size):
                return False
            client_id = PyBytes_FromStringAndSize(field, size)
        cdef Parameters parameters
        if not read_parameters(&position, end, &parameters):
            return False
        cdef const char *described = position
        while position < end and (position[0] == 0x2A or position[0] == 0x32):
            if read_field(&position, end, position[0], &size) == NULL:
                return False
        if not 0 < position - described <= 1024:
            return False
        cdef const char *contents[MAX_INPUTS]
        cdef Py_ssize_t sizes[MAX_INPUTS]
        cdef int count = 0, index
        cdef bytes key = PyBytes_FromStringAndSize(described, position - described)
        while position < end:
            if count == MAX_INPUTS:
                return False
            contents[count] = read_field(&position, end, 0x3A, &sizes[count])
            if contents[count] == NULL:
                return False
            count += 1
        cdef PyObject *entry = PyDict_GetItem(self.forms.entries, key)
        cdef Form form
        if entry == NULL:
            form = self.learn(key, [PyBytes_FromStringAndSize(contents[index], sizes[index]) for index in range(count)])
        else:
            form = <Form>entry
        if form is None or form.count != count:
            return False
        cdef list buffers = []
        cdef Input *each
        cdef Py_ssize_t string_bytes = 0
        for index in range(count):
            each = &form.inputs[index]
            field, size = contents[each.which], sizes[each.which]
            if each.size < 0:
                if not are_strings(field, size, each.count):
                    return False
                string_bytes += size
            elif size != each.size:
                return False
            buffers.append(PyBytes_FromStringAndSize(field, size))
        cdef GrpcRequest request = GrpcRequest.__new__(GrpcRequest)
        request.buffers, request.client_id = buffers, client_id
        # The time until the sooner deadline; 0 for the default.
        cdef double timeout_s = parameters.timeout_s
        if seconds is not None:
            if seconds <= 0:
                return False
            timeout_s = min(timeout_s, <double>seconds) if timeout_s else seconds
        cdef Model model = self.path.model_of(self.model)
        if model is None or (model.has_steps and parameters.has_own):
            return False
        if identity is not None and (identity is not self.allowed or self.model is not self.allowed_model):
            if not identity.allows("infer", self.model[0]):
                return False
            self.allowed, self.allowed_model = identity, self.model
        if not self.path.admit(request, model, self.model[1], form, string_bytes, timeout_s, parameters.priority, identity):
            return False
        request.calls, request.call = self, call
        observer = self.path.observer
        if observer is not None and not observer.skips(self.model[0], traceparent_of(context[2])):
            request.record = self.begin_record(call, *context, message)
            name = "" if client_id is None else client_id.decode()
            request.record.name(self.model[0], self.model[1], name, identity)
        self.handles[call] = request
        request.model.servable.put(request)
        return True

    cdef bint name(self, const char *start, const char *end) except -1:
        """Remember the model and version that these fields name. Return False if they are not valid."""
        cdef const char *position = start
        cdef const char *field
        cdef Py_ssize_t size
        cdef bytes model = b"", version = b""
        field = read_field(&position, end, 0x0A, &size)
        if field != NULL:
            model = PyBytes_FromStringAndSize(field, size)
        field = read_field(&position, end, 0x12, &size)
        if field != NULL:
            version = PyBytes_FromStringAndSize(field, size)
        try:
            self.model = (model.decode(), version.decode())
        except UnicodeDecodeError:
            return False
        self.named = PyBytes_FromStringAndSize(start, end - start)
        return True

    cdef Form learn(self, bytes described, list contents):
        """Return the form of messages with these fields of inputs and outputs, if the fast path takes them."""
        found = self.reader.form(described, contents)
        if found is None or found.layout is None or not 0 < len(found.names) <= MAX_INPUTS:
            return None
        if found.output_options.class_counts or found.output_options.region_ranges:
            return None
        cdef Form form = Form.with_inputs(len(found.names))
        cdef Input *each
        for index, (datatype, shape, size) in enumerate(zip(found.datatypes, found.shapes, found.sizes)):
            each = &form.inputs[index]
            each.which = index if found.order is None else found.order[index]
            elements = prod(shape)
            if not 0 <= elements < MAX_ELEMENTS:
                return None
            each.size, each.count = size, elements
        form.layout = found.layout
        self.forms.put(described, form)
        return form

    cdef void answer(self, GrpcRequest request, Results group, Py_ssize_t index) except *:
        cdef Model model = request.model
        cdef Texts texts = self.texts_of(model, group, index)
        if texts is None:
            self.answer_slowly(request, group, index)
            return
        cdef tuple heads = texts.before
        cdef Py_ssize_t total = PyBytes_GET_SIZE(texts.end), number
        for number in range(len(heads)):
            total += PyBytes_GET_SIZE(<object>PyTuple_GET_ITEM(heads, number))
            total += group.size_of(number, index)
        cdef bytes named = b""
        if request.client_id is not None:
            named = b"".join(field_of(0x1A, request.client_id))
            total += PyBytes_GET_SIZE(named)
        if total > self.max_size:
            self.answer_slowly(request, group, index)
            return
        cdef bytes message = PyBytes_FromStringAndSize(NULL, total)
        cdef char *to = put_bytes(PyBytes_AS_STRING(message), texts.end)
        for number in range(len(heads)):
            to = put_bytes(to, <object>PyTuple_GET_ITEM(heads, number))
            to = group.put(to, number, index)
        put_bytes(to, named)
        self.handles.pop(request.call, None)
        if not self.answers:
            self.respond()
        self.answers.append((request.call, message))
        if request.record is not None:
            self.end_record(request.call, 0, "", total)

    cdef void answer_slowly(self, GrpcRequest request, object group, Py_ssize_t index) except *:
        """Let the Python code write an answer."""
        try:
            outcome = self.writer.write(ALL_BINARY, request.response(group, index))
        except Exception as error:
            outcome = error
        self.fail(request.call, outcome)

    cdef Texts texts_of(self, Model model, Results group, Py_ssize_t index):
        """Return the fields around the data of an answer; None if the Python code must write it."""
        cdef Texts texts = model.known_texts(MESSAGE, group, index)
        if texts is not None:
            return texts
        found = self.writer.fields(model.name, model.version, group, index)
        if found.size > self.path.limits.response_bytes or None in found.heads:
            return None
        texts = Texts.__new__(Texts)
        texts.layout, texts.before, texts.end = group.layout, tuple(found.heads), found.start
        return model.remember(MESSAGE, texts, group.rows_of(index))


cdef inline const char *read_field(const char **position, const char *end, uint8_t tag, Py_ssize_t *size) noexcept:
    """Return the value of a field with this tag, and go on behind it; NULL if there is no such field here."""
    cdef const char *at = position[0]
    cdef uint64_t value = 0
    cdef int shift = 0
    cdef uint8_t byte
    if at == end or <uint8_t>at[0] != tag:
        return NULL
    at += 1
    while True:
        if at == end or shift > 28:
            return NULL
        byte = at[0]
        at += 1
        value |= <uint64_t>(byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if value > <uint64_t>(end - at):
        return NULL
    size[0] = value
    position[0] = at + value
    return at


cdef inline const char *skip_field(const char *position, const char *end, uint8_t tag) noexcept:
    cdef Py_ssize_t size
    read_field(&position, end, tag, &size)
    return position
