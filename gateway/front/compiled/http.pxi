@cython.final
cdef class HttpRequest(Request):
    """A request on one connection, in place of a HotRequest."""

    cdef Receiver receiver
    cdef Form form
    cdef readonly bint response_complete
    # uvicorn sets it to False when it shuts down.
    cdef public bint keep_alive
    # The client's x-request-id; None if it sent none.
    cdef readonly bytes request_id

    waits_for_body = False

    def encode_error(self, error):
        return self.form.dialect.encode_error(error)

    def abandon(self):
        """End without an answer: the client has disconnected."""
        if not self.response_complete:
            self.end()
            self.cancel()
            if self.record is not None and not self.record.status:  # as in hot_request.py
                self.end_record(0, CANCELLED, 0)

    cdef Receiver end(self):
        """End the request, and return where its answer goes."""
        cdef Receiver receiver = self.receiver
        self.receiver = None
        self.response_complete = True
        return receiver

    cdef void end_record(self, int status, object outcome, Py_ssize_t size) except *:
        record = self.record
        if record is not None:
            self.record = None
            record.end(status, outcome, size)

    cdef void reply(self, Receiver receiver, object reply) except *:
        receiver.connection.answer(self.named(reply), self.keep_alive)
        if self.record is not None:
            self.end_record(reply.status, "", sum([len(part) for part in reply.body]))

    cdef void deliver(self, Results results, Py_ssize_t index, double now) except *:
        cdef Receiver receiver = self.end()
        cdef Http http = self.path.http
        cdef Py_ssize_t size
        cdef Texts texts = None
        cdef list values = None
        cdef Py_ssize_t tensor
        reply = None
        try:
            texts = http.texts_of(self.model, results, index, self.form)
            if texts is None or (texts.strings and not http.are_within_limits(texts, results, index)):
                reply = self.written(results, index)
            elif self.form.kind != BINARY:
                values = json_values(results, texts, index)
                if texts.shapes is not None:
                    for tensor in range(len(values)):
                        values[tensor] = nest(values[tensor], texts.shapes[tensor])
        except Exception as error:
            reply = self.failed(error)
        if reply is not None:
            self.reply(receiver, reply)
            return
        size = receiver.write(texts, results, index, values, self, now)
        self.end_record(200, "", size)
        # It is used again as if it were new.
        self.worker, self.crashes = None, 0
        receiver.spare = self

    cdef void deliver_slowly(self, object group, Py_ssize_t index) except *:
        self.reply(self.end(), self.written(group, index))

    cdef void deliver_error(self, object error) except *:
        self.reply(self.end(), self.failed(error))

    cdef object named(self, object reply):
        """Return the reply with the id of the request."""
        if self.request_id is None:
            return reply
        return reply._replace(headers=reply.headers + header_line(self.request_id))

    cdef object failed(self, object error):
        """Return the Reply with an error."""
        if self.request_id is not None:
            error = to_client_error(error, self.request_id.decode())
        if self.record is not None:
            error = to_client_error(error)
            self.record.outcome = error.kind
        return error_reply(self.form.dialect, error)

    cdef object written(self, object group, Py_ssize_t index):
        """Return the Reply with an answer, written by the Python code."""
        try:
            return self.form.writer(self.response(group, index))
        except Exception as error:
            return self.failed(error)


@cython.final
cdef class Http:
    """What the connections of one HTTP server share."""

    cdef FastPath path
    cdef object shared, limits, at_boundary
    # By their keys; hashes of the keys of nested forms that came once.
    cdef object forms, seen
    cdef Heads heads
    # By the caches of heads for certificates, as many as shared_state.py has.
    cdef object certified
    cdef list default_headers
    cdef bytes json_prefix, binary_prefix

    def __init__(self, FastPath path, shared, at_boundary):
        self.path, self.shared, self.limits, self.at_boundary = path, shared, path.limits, at_boundary
        self.heads = Heads(shared.heads)
        self.certified = BoundedCache(256)
        self.forms, self.seen = BoundedCache(MAX_CACHED), BoundedCache(MAX_CACHED)

    cdef Heads heads_of(self, cache):
        """Return the heads of a connection. Those of clients with a certificate have caches of their own."""
        if cache is self.heads.cache:
            return self.heads
        found = self.certified.entries.get(cache)
        if found is None:
            found = Heads(cache)
            self.certified.put(cache, found)
        return found

    cdef bint read(
        self, HttpRequest request, const char *text, Py_ssize_t json_length, Py_ssize_t section_bytes, body
    ) except -1:
        """Read a body, of which `section_bytes` follow the JSON. Return False if the Python code must look at it.

        body  None, or a view of `text`, of which the inputs become parts, without a copy
        """
        # The text without its lists of values and its id is the form's key.
        cdef const char *lists[MAX_LISTS]
        cdef Py_ssize_t sizes[MAX_LISTS]
        cdef int count
        cdef const char *client_id
        cdef Py_ssize_t client_id_size
        cdef char key[MAX_KEY]
        cdef Py_ssize_t key_size = cut(text, json_length, lists, sizes, &count, &client_id, &client_id_size, key)
        if key_size < 0 or client_id_size > 256:
            return False
        cdef bytes key_bytes = PyBytes_FromStringAndSize(key, key_size)
        cdef PyObject *entry = PyDict_GetItem(self.forms.entries, key_bytes)
        cdef Form form
        if entry == NULL:
            found = rest_forms.find(PyBytes_FromStringAndSize(text, json_length))
            form = Form.of(found)
            if form is not None:
                form.writer = partial(rest.write, self.path.engine, self.limits, found.options)
                self.forms.put(key_bytes, form)
        else:
            form = <Form>entry
        if form is None or form.section_bytes != section_bytes:
            return False
        cdef list buffers = []
        cdef int index
        cdef Input *each
        cdef const char *section
        request.string_bytes = 0
        for index in range(form.count):
            each = &form.inputs[index]
            if each.which < 0:
                section = text + json_length + each.start
                if each.code == c"s":
                    if not are_strings(section, each.size, each.count):
                        return False
                    request.string_bytes += each.size
                if body is None:
                    buffers.append(PyBytes_FromStringAndSize(section, each.size))
                else:
                    buffers.append(body[json_length + each.start : json_length + each.start + each.size])
                continue
            if each.which >= count:
                return False
            packed = pack(each, lists[each.which], sizes[each.which])
            if packed is None:
                return False
            if each.size < 0:
                request.string_bytes += PyBytes_GET_SIZE(packed)
            buffers.append(packed)
        request.client_id = None
        if client_id_size > 0:
            if not is_plain_text(client_id, client_id_size):
                return False
            request.client_id = PyBytes_FromStringAndSize(client_id, client_id_size)
        request.form, request.buffers, request.is_large = form, buffers, body is not None
        return True

    cdef bint are_within_limits(self, Texts texts, Results results, Py_ssize_t index) except -1:
        """Whether an answer with strings is short enough for the fast path."""
        cdef Py_ssize_t size = 0, tensor
        for tensor in range(len(texts.before)):
            size += results.size_of(tensor, index)
        return size <= self.limits.response_bytes and size <= self.limits.json_answer_bytes

    cdef Texts texts_of(self, Model model, Results group, Py_ssize_t index, Form form):
        """Return the texts around the values of an answer; None if the Python code must write it."""
        cdef Texts texts
        if form.kind >= PLAIN:
            texts = nested_texts(self, model, group, index, form)
            if texts is not None and form.instances > 1 and texts.shapes[0][0] != form.instances:
                return None
            return texts
        cdef bint binary = form.kind == BINARY
        texts = model.known_texts(form.kind, group, index)
        if texts is not None:
            return texts
        found = rest_response.texts_of(model.name, model.version, group, index, binary)
        limits = self.limits
        if found.size > limits.response_bytes or found.size > limits.json_answer_bytes:
            return None
        if not found.before or (found.strings and binary):
            return None
        texts = Texts.__new__(Texts)
        texts.layout, texts.before, texts.end = group.layout, found.before, found.end + b"]"
        texts.strings = bool(found.strings)
        # The Python code writes strings, and what numpy lacks.
        texts.dtypes = tuple([numpy_dtype(each[1]) if character_of(each[1]) not in (0, c"s") else None for each in group.layout[2]])
        return model.remember(form.kind, texts, group.rows_of(index))


@cython.final
cdef class Receiver:
    """Receives for one connection, as BufferedReceiver does, and offers what it receives to the fast path."""

    cdef object connection, body_buffer, shared_buffer, transport, server_state
    cdef Http http
    cdef char *base
    # Whether the fast path took what was received last. The connection is between requests then, or waits for
    # `request` to be answered; the Python code has no part in it.
    cdef bint alone
    cdef bint write_paused
    cdef HttpRequest request
    # A request that was answered, and is used again.
    cdef HttpRequest spare
    # The head of the last request, and the length of the body behind it. Most clients repeat it.
    cdef Head head
    cdef Heads heads
    cdef bytes head_text, request_id
    cdef Py_ssize_t body_length

    def __init__(self, connection, Http http):
        cdef memoryview shared_buffer = http.shared.receive_buffer
        self.connection, self.shared_buffer, self.http = connection, shared_buffer, http
        self.server_state = connection.server_state
        self.heads = http.heads_of(connection.heads)
        cdef Py_buffer buffer
        PyObject_GetBuffer(shared_buffer, &buffer, PyBUF_SIMPLE)
        self.base = <char *>buffer.buf  # it is never resized, and `shared_buffer` keeps it
        PyBuffer_Release(&buffer)

    def connection_made(self, transport):
        self.transport = transport
        self.connection.connection_made(transport)

    def connection_lost(self, error):
        self.body_buffer = None
        self.connection.connection_lost(error)
        self.request = self.spare = None

    def eof_received(self):
        """Nothing: the transport closes. Over TLS, uvloop requires this method."""

    def pause_writing(self):
        self.write_paused = True
        self.connection.pause_writing()

    def resume_writing(self):
        self.write_paused = False
        self.connection.resume_writing()

    def get_buffer(self, Py_ssize_t sizehint):
        if self.alone:
            return self.shared_buffer
        self.body_buffer = self.connection.receive_buffer()
        return self.shared_buffer if self.body_buffer is None else self.body_buffer

    def buffer_updated(self, Py_ssize_t size):
        if self.alone:
            if self.request.response_complete and self.take(self.base, size):
                return
            self.alone = False
        elif self.body_buffer is not None:
            self.body_buffer = None
            complete = self.connection.buffer_filled(size)
            if complete is not None and not self.take_large(complete):
                complete.on_body_complete()
            return
        elif self.is_free():
            self.request = None
            if self.take(self.base, size):
                self.alone = True
                return
        self.connection.data_received(PyBytes_FromStringAndSize(self.base, size))

    cdef bint take(self, const char *data, Py_ssize_t size) except -1:
        """Take the request that these bytes are, if they are one. Return False if the Python code must look at it."""
        cdef double arrived = 0 if self.http.path.observer is None else monotonic()
        cdef const char *found = find_bytes(data, size, b"\r\n\r\n", 4)
        if found == NULL or found - data > MAX_HEAD:
            return False
        cdef const char *body = found + 4
        cdef Py_ssize_t length = size - (body - data), json_length, head_size = found - data
        if not (self.repeats_head(data, head_size, length) and is_valid(self.head.identity)):
            self.head = self.heads.find(data, head_size, length)
            self.head_text, self.body_length = PyBytes_FromStringAndSize(data, head_size), length
            self.request_id = self.heads.request_id
        cdef Head head = self.head
        if head is None:
            return False
        json_length = length if head.json_length < 0 else head.json_length
        if json_length > length or (head.json_length >= 0 and json_length > MAX_UNCOUNTED):
            return False
        cdef HttpRequest request = self.spare
        self.spare = None
        if request is None:
            request = HttpRequest.__new__(HttpRequest)
        cdef FastPath path = self.http.path
        cdef Model model = path.model_of(head.model)
        if model is None:
            return False
        if head.kind >= PLAIN:
            if not read_nested(self.http, request, head, model, body, length):
                return False
        elif not self.http.read(request, body, json_length, length - json_length, None):
            return False
        cdef Form form = request.form
        if not path.admit(request, model, head.model[1], form, request.string_bytes, form.timeout_s, form.priority, head.identity):
            return False
        request.record, request.request_id = None, self.request_id
        if path.observer is not None and not path.observer.skips(head.model[0], traceparent(data, head_size)):
            name = "" if request.client_id is None else request.client_id.decode()
            text = PyBytes_FromStringAndSize(data, head_size)
            request.record = self.connection.record_of(text, head.head, length, arrived, name)
            request.request_id = request.record.request_id.encode()
        request.receiver, request.response_complete, request.keep_alive = self, False, True
        if self.request is not request:
            self.request = self.connection.cycle = request
        model.servable.put(request)
        return True

    cdef bint take_large(self, complete) except -1:
        """Take a request whose large body was received by the Python code. Return False if that must go on."""
        handed_over = complete.hand_over()
        if handed_over is None:
            return False
        head, body = handed_over
        cdef Py_buffer view
        cdef bint taken
        PyObject_GetBuffer(body, &view, PyBUF_SIMPLE)
        try:
            taken = self.take_body(complete, head, body, <const char *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        return taken

    cdef bint take_body(self, complete, head, body, const char *data, Py_ssize_t size) except -1:
        route, stated = head.route, head.headers.json_length
        if route.dialect is not V2 or stated is None or not 0 < <Py_ssize_t>stated <= min(size, MAX_UNCOUNTED):
            return False
        cdef Py_ssize_t json_length = stated
        cdef FastPath path = self.http.path
        cdef Model model = path.model_of((route.model, route.version))
        if model is None:
            return False
        cdef HttpRequest request = self.spare
        self.spare = None
        if request is None:
            request = HttpRequest.__new__(HttpRequest)
        if not self.http.read(request, data, json_length, size - json_length, body):
            return False
        complete.leave()
        cdef Form form = request.form
        if not path.admit(request, model, route.version, form, request.string_bytes, form.timeout_s, form.priority, head.identity):
            complete.come_back()
            return False
        request.record, request.request_id = None, complete.request_id or None
        request.receiver, request.response_complete, request.keep_alive = self, False, True
        self.connection.cycle = request
        complete.end_taken()
        model.servable.put(request)
        return True

    cdef bint repeats_head(self, const char *text, Py_ssize_t size, Py_ssize_t length) noexcept:
        """Whether the last request had this very head, and a body of this length."""
        if self.head is None or length != self.body_length or size != PyBytes_GET_SIZE(self.head_text):
            return False
        return not memcmp(text, PyBytes_AS_STRING(self.head_text), size)

    cdef bint is_free(self) except -1:
        """Whether the connection is between requests, and nothing about it is unusual."""
        connection = self.connection
        if connection.receiving is not self.http.at_boundary or connection.confirms_keep_alive:
            return False
        cycle, flow = connection.cycle, connection.flow
        return (cycle is None or cycle.response_complete) and not flow.read_paused and not connection.pipeline

    cdef Py_ssize_t write(
        self,
        Texts texts,
        Results results,
        Py_ssize_t member,
        list values,
        HttpRequest request,
        double now,
    ) except -1:
        """Write an answer, as rest_response and HttpConnection.answer do, and return the size of its body.

        values  in JSON; None for binary
        """
        cdef bint binary = values is None, keep_alive = request.keep_alive
        cdef bytes client_id = request.client_id
        transport = self.transport
        if transport.is_closing():
            return 0
        cdef Http http = self.http
        defaults = self.server_state.default_headers
        if defaults is not http.default_headers:
            http.default_headers = defaults
            http.json_prefix = http.shared.response_prefix(200, b"application/json", defaults) + b"content-length: "
            http.binary_prefix = (
                http.shared.response_prefix(200, b"application/octet-stream", defaults) + b"content-length: "
            )
        cdef bytes prefix = http.binary_prefix if binary else http.json_prefix
        cdef tuple before = texts.before
        cdef Py_ssize_t count = len(before), index, text = PyBytes_GET_SIZE(texts.end) + 1, size = 0
        if client_id is not None:
            text += PyBytes_GET_SIZE(client_id) + 8
        for index in range(count):
            text += PyBytes_GET_SIZE(<object>PyTuple_GET_ITEM(before, index))
            size += results.size_of(index, member) if binary else PyBytes_GET_SIZE(<object>PyList_GET_ITEM(values, index))
        size += text
        cdef char head[512]
        cdef int head_size
        if binary:
            head_size = snprintf(head, 512, b"%zd\r\ninference-header-content-length: %zd\r\n", size, text)
        else:
            head_size = snprintf(head, 512, b"%zd\r\n", size)
        if request.request_id is not None:
            head_size += snprintf(
                head + head_size, 512 - head_size, b"x-request-id: %s\r\n", PyBytes_AS_STRING(request.request_id)
            )
        keep_alive = keep_alive and http.path.keep_alive
        if not keep_alive:
            head_size += snprintf(head + head_size, 512 - head_size, b"connection: close\r\n")
        elif not self.alone and self.connection.confirms_keep_alive:
            head_size += snprintf(head + head_size, 512 - head_size, b"connection: keep-alive\r\n")
        head[head_size], head[head_size + 1] = c"\r", c"\n"
        head_size += 2
        cdef bint large = size >= MAX_JOINED_BYTES and binary
        cdef Py_ssize_t total = PyBytes_GET_SIZE(prefix) + head_size + (text if large else size)
        cdef bytes answer = PyBytes_FromStringAndSize(NULL, total)
        cdef char *to = PyBytes_AS_STRING(answer)
        to = put_bytes(to, prefix)
        memcpy(to, head, head_size)
        to += head_size
        for index in range(count):
            to = put_bytes(to, <object>PyTuple_GET_ITEM(before, index))
            if not binary:
                to = put_bytes(to, <object>PyList_GET_ITEM(values, index))
        to = put_bytes(to, texts.end)
        if client_id is not None:
            memcpy(to, b',"id":"', 7)
            to = put_bytes(to + 7, client_id)
            to[0] = c'"'
            to += 1
        to[0] = c"}"
        to += 1
        if large:
            transport.writelines([answer, *[results.data(index, member, member + 1) for index in range(count)]])
        else:
            if binary:
                for index in range(count):
                    to = results.put(to, index, member)
            transport.write(answer)
        if not keep_alive:
            transport.close()
        elif self.alone and not self.write_paused:
            self.connection.last_active = now
        else:
            self.connection.on_response_complete()
        return size
