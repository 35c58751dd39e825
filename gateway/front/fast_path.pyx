# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, binding=False
"""The fast path: usual requests of the Open Inference Protocol, from the bytes of a connection to the worker's frame
and back, in one compiled file.

It takes a request only if nothing about it is unusual, which it finds out before it changes anything; `take` then
returns False, and the Python code does all of the work. Nothing is decided here: what a head and a form mean is learned
from the Python code (head_cache.py, rest_forms.py, grpc_request.py), and so is whether a layout is valid (validate.py).
What is here is the bookkeeping of engine.py and hot_request.py for a request that goes well, with the fields of a
request in a C structure instead of a dozen Python objects.

    take ── head known? ── form known? ── layout valid? ── admitted? ── put into the model's queue
    answer ── settled, counted ── text or message from the frame's outputs ── written
    fail, cancel, abandon ── settled, counted ── the Python code writes the error

States of a request (states.py has those of a HotRequest): it begins INFERRING and ends DONE; no other applies, because
its body is complete, it is next in turn, and its answer is not compressed.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.dict cimport PyDict_GetItem
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.list cimport PyList_CheckExact, PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_AsDouble, PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM
from libc.math cimport isinf
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memchr, memcmp, memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef extern from *:
    """
    #include <string.h>
    static void *find_bytes(const void *text, size_t size, const void *what, size_t length) {
        return memmem(text, size, what, length);
    }
    """
    char *find_bytes(const void *text, size_t size, const void *what, size_t length) nogil

cdef extern from "Python.h":
    int PyFloat_Pack2(double x, char *p, int little) except -1
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    bint PyUnicode_CheckExact(object text)
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1
    unsigned long long PyLong_AsUnsignedLongLong(object number) except? 0xFFFFFFFFFFFFFFFF

import logging
from math import prod

import orjson

from gateway.domain.types import InferResponse
from gateway.engine.arena import MIN_ARENA_BYTES
from gateway.front.dialects.v2 import rest, rest_forms, rest_response
from gateway.front.dialects.v2.known_input import code_of
from gateway.front.dialects.v2.output_options import ALL_BINARY, ALL_JSON
from gateway.front.base.dialect import error_reply
from runtimes.bounded_cache import BoundedCache
from runtimes.contract import DATATYPES
from runtimes.layouts import GroupedTensors

log = logging.getLogger("gateway.engine.engine")

DEF MAX_LISTS = 32
DEF MAX_KEY = 8192
DEF MAX_INPUTS = 64

cdef object V2 = rest.V2
cdef object orjson_loads = orjson.loads
cdef dict NOTHING = {}


cdef inline double monotonic() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef struct Input:
    # The index of its list, or -1 if its bytes follow the JSON, from start to stop.
    int which
    char code
    Py_ssize_t count, size, start, stop


cdef class Form:
    """A rest_forms.Form: what requests that differ in their values and ids have in common."""

    cdef Input inputs[MAX_INPUTS]
    cdef int count
    cdef Py_ssize_t section_bytes
    cdef bint binary, has_timeout
    cdef double timeout_s
    cdef int priority
    cdef object layout
    # The version's validator that was asked last, and what it found for this layout.
    cdef object validator, valid
    cdef object layout_in_frames
    cdef Py_ssize_t rows, input_bytes

    @staticmethod
    cdef Form of(object form):
        """Return None for a form that the fast path does not take."""
        if form is None or form.layout is None or not 0 < len(form.inputs) <= MAX_INPUTS:
            return None
        if form.options is not ALL_JSON and form.options is not ALL_BINARY:
            return None
        cdef Form self = Form.__new__(Form)
        cdef Input *each
        self.count = 0
        for known in form.inputs:
            each = &self.inputs[self.count]
            if isinstance(known, rest_forms._Values):
                code = code_of(known.datatype)
                if not code:
                    return None
                each.which, each.code = known.which, ord(code)
                each.count = prod(known.shape)
                each.size = each.count * DATATYPES[known.datatype].itemsize
            else:
                each.which, each.start, each.stop = -1, known.start, known.stop
                each.size = known.stop - known.start
            self.count += 1
        self.section_bytes = form.section_bytes
        self.binary = form.options is ALL_BINARY
        self.has_timeout = form.timeout_s is not None
        self.timeout_s = form.timeout_s or 0.0
        self.priority = form.priority
        self.layout = form.layout
        return self


cdef class Head:
    """A head_cache.Head of the Open Inference Protocol."""

    cdef object head
    cdef tuple model
    cdef Py_ssize_t content_length, json_length
    # The text that it was found for, if no other text stands for it.
    cdef bytes owner
    cdef const char *text
    cdef Py_ssize_t size

    @staticmethod
    cdef Head of(object head):
        route, headers = head.route, head.headers
        if route.dialect is not V2 or not head.is_plain or headers.json_length == 0:
            return None
        cdef Head self = Head.__new__(Head)
        self.head = head
        self.model = (route.model, route.version)
        self.content_length = headers.content_length
        self.json_length = -1 if headers.json_length is None else headers.json_length
        return self


@cython.final
cdef class Texts:
    """The texts of answers with one layout, as rest_response._Texts."""

    cdef object layout
    cdef tuple before
    cdef bytes end


cdef class Model:
    """A Servable and what is needed of it for each request, until its status changes."""

    cdef object servable, validator, metrics, name, version
    cdef list finished, waited
    cdef bint usable
    cdef int default_priority, priority_levels
    # Texts by the address of their layout, which they keep, and the rows.
    cdef dict json_texts, binary_texts

    def __init__(self, servable):
        status = servable.status
        self.servable, self.validator, self.metrics = servable, servable.validator, servable.metrics
        self.finished, self.waited = self.metrics.finished, self.metrics.waited
        self.name, self.version = status.name, status.version
        self.usable = status.admits and not servable.target_s
        self.default_priority = status.default_priority_level
        self.priority_levels = status.priority_levels
        self.json_texts, self.binary_texts = {}, {}


@cython.freelist(256)
cdef class Request:
    """A QueuedRequest (servable.py)."""

    cdef readonly object id, layout
    cdef readonly Py_ssize_t rows, size
    cdef readonly double deadline, queued_at
    cdef readonly int priority
    cdef public double sent_at
    cdef public int crashes
    cdef public object worker
    cdef public bint answered
    cdef readonly bint settled
    # The bytes of its inputs, in the order of the layout; None once it is settled.
    cdef readonly list buffers
    cdef FastPath path
    cdef Model model
    cdef bint default_timeout
    # The id that the client chose, as bytes of a JSON string without escapes.
    cdef bytes client_id

    cdef inline void settle(self) except *:
        """Do what FrontEngine.settle does, except that the servable keeps the request."""
        self.settled = True
        self.buffers = None
        admission = self.path.admission
        cdef Py_ssize_t left = admission.requests - 1
        admission.requests = left
        admission._bytes -= self.size
        if not left:
            admission.on_idle()
        if self.default_timeout:
            del self.path.timeouts[self.id]
        else:
            self.path.deadlines.remove(self, None)

    def fail(self, error):
        if self.settled:
            return
        self.settle()
        self.model.servable.release(self)
        self.model.metrics.count(error.kind, monotonic() - self.queued_at)
        try:
            self.deliver_error(error)
        except Exception:
            log.exception("an answer could not be delivered")

    def cancel(self):
        if self.settled:
            return
        self.settle()
        self.model.servable.release(self)
        self.model.metrics.count("cancelled", monotonic() - self.queued_at)

    def answer(self, results, Py_ssize_t index):
        """See servable.py."""
        if self.settled or not results.final:  # a unary call has one answer, and earlier ones are dropped
            return
        cdef double now = monotonic()
        cdef double queued_s = <int64_t>(<tuple>results.queue_ns)[index]
        queued_s = self.sent_at - self.queued_at + queued_s / 1e9
        self.settle()
        self.model.finished.append(now - self.queued_at)
        self.model.waited.append(queued_s)
        try:
            self.deliver(results.outputs, index, now)
        except Exception:
            log.exception("an answer could not be delivered")

    cdef void deliver(self, object group, Py_ssize_t index, double now) except *:
        raise NotImplementedError

    cdef void deliver_error(self, object error) except *:
        raise NotImplementedError


@cython.freelist(256)
@cython.final
cdef class HttpRequest(Request):
    """A request on one connection, in place of a HotRequest."""

    cdef Receiver receiver
    cdef bint binary
    cdef readonly bint response_complete

    keep_alive = True
    waits_for_body = False

    def encode_error(self, error):
        return V2.encode_error(error)

    def abandon(self):
        """End without an answer: the client has disconnected."""
        if not self.response_complete:
            self.response_complete = True
            self.receiver = None
            self.cancel()

    cdef void deliver(self, object group, Py_ssize_t index, double now) except *:
        cdef Receiver receiver = self.receiver
        self.receiver = None
        self.response_complete = True
        cdef Texts texts = self.path.texts_of(self.model, group, index, self.binary)
        if texts is None:
            receiver.connection.answer(self.path.written(self, group, index), True)
            return
        cdef list values = None
        cdef Py_ssize_t count = len(texts.before)
        if self.binary:
            values = [group.data(tensor, index, index + 1) for tensor in range(count)]
        else:
            memo = group.memo
            if memo is None:
                memo = group.memo = [rest_response._values_of_all(group, each) for each in range(count)]
            values = [texts_of_one[index] for texts_of_one in <list>memo]
        receiver.write(texts, values, self.client_id, self.binary, now)
        receiver.spare = self

    cdef void deliver_error(self, object error) except *:
        cdef Receiver receiver = self.receiver
        self.receiver = None
        self.response_complete = True
        receiver.connection.answer(error_reply(V2, error), True)


cdef class FastPath:
    """What the requests of one front share.

    It may be made once the engine is complete; `Receiver` asks it for each request.
    """

    cdef object engine, limits, at_boundary, routes, admission, deadlines, shared, heads
    cdef object bucket
    cdef dict timeouts, known
    cdef double timeout_s
    cdef Py_ssize_t max_requests, max_bytes, share
    # Whether connections stay open.
    cdef public bint keep_alive
    cdef object forms, exact, by_head, models
    cdef list default_headers
    cdef bytes json_prefix, binary_prefix

    def __init__(self, engine, limits, shared, at_boundary):
        self.engine, self.limits, self.shared, self.at_boundary = engine, limits, shared, at_boundary
        self.routes, self.admission, self.deadlines = engine._routes, engine._admission, engine._deadlines
        self.heads = shared.heads
        self.known = self.routes.known
        limits = self.admission.limits
        self.timeout_s, self.max_requests, self.max_bytes = limits.timeout_s, limits.max_requests, limits.max_bytes
        self.share = max(1, self.max_requests // 2)
        self.keep_alive = True
        self.bucket = self.deadlines.bucket(self.timeout_s)
        self.timeouts = self.bucket.items
        self.forms = BoundedCache(1024)
        self.exact = BoundedCache(1024)
        self.by_head = BoundedCache(1024)
        self.models = {}
        self.default_headers = None

    def receiver(self, connection, memoryview buffer):
        return Receiver(connection, buffer, self)

    cdef bint take(self, Receiver receiver, const char *data, Py_ssize_t size) except -1:
        """Take the request that these bytes are, if they are one. Return False if the Python code must look at it."""
        cdef const char *found = find_bytes(data, size, b"\r\n\r\n", 4)
        if found == NULL or found - data > 2048:
            return False
        cdef const char *body = found + 4
        cdef Py_ssize_t length = size - (body - data), json_length, head_size = found - data
        cdef Head head = receiver.head
        if head is None or head.size != head_size or head.content_length != length or memcmp(head.text, data, head_size):
            head = self.head_of(PyBytes_FromStringAndSize(data, head_size), length)
            if head is None:
                return False
            if head.text != NULL:
                receiver.head = head
        json_length = length if head.json_length < 0 else head.json_length
        if json_length > length or (head.json_length >= 0 and json_length > 4096):
            return False
        # The text without its lists of values and its id is the form's key.
        cdef const char *lists[MAX_LISTS]
        cdef Py_ssize_t sizes[MAX_LISTS]
        cdef int count
        cdef const char *client_id
        cdef Py_ssize_t client_id_size
        cdef char key[MAX_KEY]
        cdef Py_ssize_t key_size = cut(body, json_length, lists, sizes, &count, &client_id, &client_id_size, key)
        if key_size < 0 or client_id_size > 256:
            return False
        cdef bytes key_bytes = PyBytes_FromStringAndSize(key, key_size)
        cdef PyObject *entry = PyDict_GetItem(self.forms.entries, key_bytes)
        cdef Form form
        if entry == NULL:
            form = Form.of(rest_forms.find(PyBytes_FromStringAndSize(body, json_length)))
            if form is not None:
                self.forms.put(key_bytes, form)
        else:
            form = <Form>entry
        if form is None or form.section_bytes != length - json_length:
            return False
        cdef list buffers = []
        cdef int index
        cdef Input *each
        for index in range(form.count):
            each = &form.inputs[index]
            if each.which >= 0:
                if each.which >= count:
                    return False
                data_bytes = pack(each, lists[each.which], sizes[each.which])
                if data_bytes is None:
                    return False
                buffers.append(data_bytes)
            else:
                buffers.append(PyBytes_FromStringAndSize(body + json_length + each.start, each.size))
        cdef bytes id_bytes = None
        if client_id_size > 0:
            if not is_plain_text(client_id, client_id_size):
                return False
            id_bytes = PyBytes_FromStringAndSize(client_id, client_id_size)
        cdef HttpRequest request = receiver.spare
        receiver.spare = None
        if request is None:
            request = HttpRequest.__new__(HttpRequest)
        request.binary, request.client_id, request.buffers = form.binary, id_bytes, buffers
        if not self.admit(request, head.model, form):
            return False
        request.receiver, request.response_complete = receiver, False
        if receiver.request is not request:
            receiver.request = receiver.connection.cycle = request
        request.model.servable.put(request)
        return True

    cdef Head head_of(self, bytes text, Py_ssize_t length):
        """Return None if the Python code must look at the head."""
        cdef PyObject *entry = PyDict_GetItem(self.exact.entries, text)
        cdef Head known
        if entry != NULL:
            known = <Head>entry
            return known if known.content_length == length else None
        head = self.heads.find(text, length)
        if head is None:
            return None
        number = id(head)
        entry = PyDict_GetItem(self.by_head.entries, number)
        if entry != NULL and (<Head>entry).head is head:
            known = <Head>entry
        else:
            known = Head.of(head)
            if known is None:
                return None
            self.by_head.put(number, known)
        if text in self.heads._exact.entries:
            known.owner, known.text, known.size = text, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)
            self.exact.put(text, known)
        return known

    cdef bint admit(self, Request request, tuple name, Form form) except -1:
        """Do what FrontEngine.submit does, if nothing is in the way. Otherwise return False, with nothing changed."""
        cdef PyObject *entry = PyDict_GetItem(self.known, name)
        if entry == NULL or self.engine.draining:
            return False
        servable = <object>entry
        entry = PyDict_GetItem(self.models, servable)
        cdef Model model
        if entry == NULL or (<Model>entry).validator is not servable.validator:
            if len(self.models) > 4096:
                self.models.clear()
            model = Model(servable)
            self.models[servable] = model
        else:
            model = <Model>entry
        if not model.usable:
            return False
        if form.validator is not model.validator:
            valid = model.validator.known(form.layout)
            if valid is None:
                return False
            form.validator, form.valid = model.validator, valid
            form.layout_in_frames = valid.layout
            form.rows, form.input_bytes = valid.rows, valid.input_bytes
        cdef double now = monotonic()
        admission = self.admission
        cdef Py_ssize_t size = form.input_bytes
        if request.client_id is not None:
            size += PyBytes_GET_SIZE(request.client_id)
        if form.has_timeout:
            if form.timeout_s <= 0:
                return False
            request.deadline = now + min(form.timeout_s, 86400.0)
        else:
            request.deadline = now + self.timeout_s
        request.default_timeout = not form.has_timeout
        cdef Py_ssize_t requests = admission.requests, admitted = admission._bytes
        if requests >= self.max_requests or admitted + size > self.max_bytes:
            return False
        if requests >= self.share and self.routes.has_several_models:
            return False
        admission.requests = requests + 1
        admission._bytes = admitted + size
        number = self.engine._next_id + 1
        self.engine._next_id = number
        request.id, request.size, request.rows, request.layout = number, size, form.rows, form.layout_in_frames
        request.queued_at = now
        request.priority = model.default_priority
        if form.priority:
            request.priority = servable.status.priority_level(form.priority)
        request.path, request.model = self, model
        request.settled = request.answered = False
        if request.default_timeout and self.bucket.armed:
            self.timeouts[number] = request
        else:
            self.deadlines.add(request, None if form.has_timeout else self.timeout_s)
        return True

    cdef Texts texts_of(self, Model model, object group, Py_ssize_t index, bint binary):
        """Return the texts around the values of an answer; None if the Python code must write it."""
        cdef dict known = model.binary_texts if binary else model.json_texts
        layout = group.layout
        address = (<Py_ssize_t><PyObject *>layout, group.rows[index])
        cdef PyObject *entry = PyDict_GetItem(known, address)
        if entry != NULL:
            return <Texts>entry
        found = rest_response.texts_of(model.name, model.version, group, index, binary)
        limits = self.limits
        if found.size > limits.response_bytes or found.size > limits.json_answer_bytes:
            return None
        if found.strings or not found.before:
            return None
        cdef Texts texts = Texts.__new__(Texts)
        texts.layout, texts.before, texts.end = layout, found.before, found.end
        if len(known) >= 1024:
            known.clear()
        known[address] = texts
        return texts

    def written(self, HttpRequest request, group, Py_ssize_t index):
        """Return the Reply with an answer, written by the Python code."""
        model, name = request.model, "" if request.client_id is None else request.client_id.decode()
        response = InferResponse(model.name, model.version, GroupedTensors(group, index), name)
        options = ALL_BINARY if request.binary else ALL_JSON
        try:
            return rest._write(self.engine, self.limits, options, response)
        except Exception as error:
            return error_reply(V2, error)


@cython.final
cdef class Receiver:
    """Receives for one connection, as BufferedReceiver does, and offers what it receives to the fast path."""

    cdef object connection, body_buffer, shared_buffer, transport, server_state
    cdef FastPath path
    cdef char *base
    # Whether the fast path took what was received last. The connection is between requests then, or waits for
    # `request` to be answered; the Python code has no part in it.
    cdef bint alone
    cdef bint write_paused
    cdef HttpRequest request
    # A request that was answered, and is used again.
    cdef HttpRequest spare
    # The head of the last request.
    cdef Head head

    def __init__(self, connection, memoryview shared_buffer, FastPath path):
        self.connection, self.shared_buffer, self.path = connection, shared_buffer, path
        self.server_state = connection.server_state
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
            if self.request.response_complete and self.path.take(self, self.base, size):
                return
            self.alone = False
        elif self.body_buffer is not None:
            self.body_buffer = None
            self.connection.buffer_filled(size)
            return
        elif self.is_free():
            self.request = None
            if self.path.take(self, self.base, size):
                self.alone = True
                return
        self.connection.data_received(PyBytes_FromStringAndSize(self.base, size))

    cdef bint is_free(self) except -1:
        """Whether the connection is between requests, and nothing about it is unusual."""
        connection = self.connection
        if connection._receiving is not self.path.at_boundary or connection._confirms_keep_alive:
            return False
        cycle, flow = connection.cycle, connection.flow
        return (cycle is None or cycle.response_complete) and not flow.read_paused and not connection.pipeline

    cdef void write(self, Texts texts, list values, bytes client_id, bint binary, double now) except *:
        """Write an answer, as rest_response and HttpConnection.answer do."""
        transport = self.transport
        if transport.is_closing():
            return
        cdef FastPath path = self.path
        defaults = self.server_state.default_headers
        if defaults is not path.default_headers:
            path.default_headers = defaults
            path.json_prefix = path.shared.response_prefix(200, b"application/json", defaults)
            path.binary_prefix = path.shared.response_prefix(200, b"application/octet-stream", defaults)
        cdef bytes prefix = path.binary_prefix if binary else path.json_prefix
        cdef tuple before = texts.before
        cdef Py_ssize_t count = len(before), index, text = PyBytes_GET_SIZE(texts.end) + 2, size = 0
        if client_id is not None:
            text += PyBytes_GET_SIZE(client_id) + 8
        for index in range(count):
            text += PyBytes_GET_SIZE(<object>PyTuple_GET_ITEM(before, index))
            size += len(<object>PyList_GET_ITEM(values, index))
        size += text
        cdef char head[256]
        cdef int head_size
        if binary:
            head_size = snprintf(head, 256, b"%zd\r\ninference-header-content-length: %zd\r\n", size, text)
        else:
            head_size = snprintf(head, 256, b"%zd\r\n", size)
        if not path.keep_alive:
            head_size += snprintf(head + head_size, 256 - head_size, b"connection: close\r\n")
        head[head_size], head[head_size + 1] = c"\r", c"\n"
        head_size += 2
        cdef bint large = size >= 16384 and binary
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
        if client_id is None:
            memcpy(to, b"]}", 2)
            to += 2
        else:
            memcpy(to, b'],"id":"', 8)
            to = put_bytes(to + 8, client_id)
            memcpy(to, b'"}', 2)
            to += 2
        cdef Py_buffer view
        if large:
            transport.writelines([answer, *values])
        else:
            if binary:
                for index in range(count):
                    PyObject_GetBuffer(<object>PyList_GET_ITEM(values, index), &view, PyBUF_SIMPLE)
                    memcpy(to, view.buf, view.len)
                    to += view.len
                    PyBuffer_Release(&view)
            transport.write(answer)
        if not path.keep_alive:
            transport.close()
        elif self.alone and not self.write_paused:
            self.connection._last_active = now
        else:
            self.connection.on_response_complete()


cdef inline char *put_bytes(char *to, object text) noexcept:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
    memcpy(to, PyBytes_AS_STRING(text), size)
    return to + size


cdef Py_ssize_t cut(
    const char *text,
    Py_ssize_t size,
    const char **lists,
    Py_ssize_t *sizes,
    int *count,
    const char **client_id,
    Py_ssize_t *client_id_size,
    char *key,
) noexcept:
    """Cut the lists of values and the id out of a text, as rest_forms does, and write the rest to `key`.

    Return the length of the key, or -1 if it does not fit.
    """
    cdef const char *end = text + size
    cdef const char *position = text
    cdef const char *found
    cdef const char *start
    cdef const char *stop
    cdef Py_ssize_t key_size = 0
    count[0] = 0
    client_id[0], client_id_size[0] = NULL, -1
    while True:
        found = find_bytes(position, end - position, b'"data"', 6)
        stop = start = NULL
        if found != NULL and count[0] < MAX_LISTS:
            start = <const char *>memchr(found, c"[", end - found)
            if start != NULL:
                stop = <const char *>memchr(start, c"]", end - start)
        key_size = add_piece(position, (end if stop == NULL else start), client_id, client_id_size, key, key_size)
        if stop == NULL or key_size < 0:
            return key_size
        lists[count[0]], sizes[count[0]] = start, stop + 1 - start
        count[0] += 1
        position = stop + 1


cdef Py_ssize_t add_piece(
    const char *start,
    const char *stop,
    const char **client_id,
    Py_ssize_t *client_id_size,
    char *key,
    Py_ssize_t key_size,
) noexcept:
    """Add the text from `start` to `stop` to the key, without the id if that is in it."""
    cdef const char *found = NULL
    cdef const char *first
    cdef const char *last
    if client_id_size[0] == -1:
        found = find_bytes(start, stop - start, b'"id"', 4)
    if found != NULL:
        client_id_size[0] = -2  # no other text is searched for it
        first = <const char *>memchr(found + 4, c'"', stop - found - 4)
        if first != NULL:
            first += 1
            last = <const char *>memchr(first, c'"', stop - first)
            if last != NULL and memchr(first, c"\\", last - first) == NULL:
                client_id[0], client_id_size[0] = first, last - first
                key_size = add_text(start, first, 1, key, key_size)
                return add_text(last, stop, 2, key, key_size)
    return add_text(start, stop, 0, key, key_size)


cdef inline Py_ssize_t add_text(const char *start, const char *stop, uint8_t kind, char *key, Py_ssize_t key_size) noexcept:
    """Add a text to the key, with its length and what follows it, so that equal keys are of equal texts."""
    cdef uint32_t size = stop - start
    if key_size < 0 or key_size + size + 5 > MAX_KEY:
        return -1
    key[key_size] = kind
    memcpy(key + key_size + 1, &size, 4)
    memcpy(key + key_size + 5, start, size)
    return key_size + 5 + size


cdef bint is_plain_text(const char *text, Py_ssize_t size) noexcept:
    """Whether this is printable ASCII, which JSON writes as it is."""
    cdef Py_ssize_t index
    for index in range(size):
        if not 32 <= <uint8_t>text[index] < 127:
            return False
    return True


cdef object pack(Input *each, const char *text, Py_ssize_t size):
    """Return the bytes of an input with these values in JSON, or None if they must be looked at."""
    try:
        return pack_values(each, orjson_loads(PyBytes_FromStringAndSize(text, size)))
    except (ValueError, OverflowError):
        return None


cdef object pack_values(Input *each, object values):
    if not PyList_CheckExact(values) or PyList_GET_SIZE(values) != each.count:
        return None
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, each.size)
    cdef char *data = PyBytes_AS_STRING(packed)
    cdef Py_ssize_t index
    cdef double number
    cdef float single
    cdef object value
    cdef char code = each.code
    if code == c"f" or code == c"d" or code == c"e":
        for index in range(each.count):
            value = <object>PyList_GET_ITEM(values, index)
            if PyFloat_CheckExact(value):
                number = PyFloat_AS_DOUBLE(value)
            elif PyLong_CheckExact(value):
                number = PyLong_AsDouble(value)
            else:
                return None
            if code == c"f":
                single = <float>number
                if isinf(single):
                    return None
                (<float *>data)[index] = single
            elif code == c"d":
                (<double *>data)[index] = number
            else:
                PyFloat_Pack2(number, data + 2 * index, 1)
        return packed
    for index in range(each.count):
        value = <object>PyList_GET_ITEM(values, index)
        if not PyLong_CheckExact(value) or not pack_integer(data, index, code, value):
            return None
    return packed


cdef bint pack_integer(char *data, Py_ssize_t index, char code, object value) except -1:
    """Return False, or raise OverflowError, if the value does not fit."""
    cdef int overflow = 0
    cdef int64_t number
    if code == c"Q":
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow < 0 or (not overflow and number < 0):
            return False
        if overflow:
            (<uint64_t *>data)[index] = PyLong_AsUnsignedLongLong(value)
        else:
            (<uint64_t *>data)[index] = number
        return True
    number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow:
        return False
    if code == c"q":
        (<int64_t *>data)[index] = number
    elif code == c"i":
        if number != <int32_t>number:
            return False
        (<int32_t *>data)[index] = <int32_t>number
    elif code == c"h":
        if number != <int16_t>number:
            return False
        (<int16_t *>data)[index] = <int16_t>number
    elif code == c"b":
        if number != <int8_t>number:
            return False
        (<int8_t *>data)[index] = <int8_t>number
    elif code == c"I":
        if number != <uint32_t>number:
            return False
        (<uint32_t *>data)[index] = <uint32_t>number
    elif code == c"H":
        if number != <uint16_t>number:
            return False
        (<uint16_t *>data)[index] = <uint16_t>number
    elif code == c"B":
        if number != <uint8_t>number:
            return False
        (<uint8_t *>data)[index] = <uint8_t>number
    else:
        return False
    return True
