# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, binding=False, cdivision=True
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
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset
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
    bint PyUnicode_CheckExact(object text)
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1
    unsigned long long PyLong_AsUnsignedLongLong(object number) except? 0xFFFFFFFFFFFFFFFF

import logging
from itertools import accumulate
from math import prod

import orjson
from numpy import frombuffer

from gateway.domain.types import InferResponse
from gateway.engine import engine, frames
from gateway.codecs.protobuf_fields import field as field_of
from gateway.front.dialects.v2 import rest, rest_forms, rest_request, rest_response
from gateway.front.dialects.v2.known_input import code_of
from gateway.front.dialects.v2.output_options import ALL_BINARY, ALL_JSON
from gateway.front.base import dialect
from gateway.front.base.dialect import error_reply
from runtimes.bounded_cache import BoundedCache
from runtimes.contract import DATATYPES, numpy_dtype
from runtimes import wire
from runtimes.layouts import GroupedTensors, layout_with_rows, is_by_row, pack_layout, unpack_layout
from runtimes.tensors import pack_bytes

log = logging.getLogger("gateway.engine.engine")

if wire.VERSION != 7:
    raise ImportError(f"it packs frames of version 7, but runtimes/wire.py of version {wire.VERSION}")

DEF MAX_HEAD = 2048
DEF MAX_LISTS = 32
DEF MAX_KEY = 8192
DEF MAX_INPUTS = 32
DEF MAX_MESSAGE = 65536
# Entries of a cache, as of those in the Python code.
DEF MAX_CACHED = 1024
# More do not fit into a message. Shapes claim more, and Python says what is wrong with them.
DEF MAX_ELEMENTS = 1 << 40

cdef object V2 = rest.V2
cdef Py_ssize_t MAX_JOINED_BYTES = dialect.MAX_JOINED_BYTES
cdef double MAX_WAIT_S = engine.MAX_WAIT_S
cdef Py_ssize_t MAX_UNCOUNTED = rest_request.MAX_UNCOUNTED
cdef object orjson_loads = orjson.loads
cdef object orjson_dumps = orjson.dumps
cdef object SERIALIZE_NUMPY = orjson.OPT_SERIALIZE_NUMPY
cdef object row_layout = layout_with_rows
cdef object python_frames = frames.Frames()
cdef Py_ssize_t MAX_REQUESTS_PER_FRAME = frames.MAX_REQUESTS_PER_FRAME
cdef uint8_t VERSION = wire.VERSION, INFER = wire.INFER, RESULT = wire.RESULT
cdef uint16_t ISOLATED = wire.ISOLATED, FINAL = wire.FINAL, FIRST_OF_BATCH = wire.FIRST_OF_BATCH


cdef inline double monotonic() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef struct Input:
    # The index of its list in the JSON or of its contents in the message, or -1 if its bytes follow the JSON, from
    # `start` on.
    int which
    # The struct module's character for its values, or s for strings.
    char code
    # Its values, and its bytes; the latter are -1 for strings in JSON or in a message.
    Py_ssize_t count, size, start


cdef class Form:
    """A rest_forms.Form: what requests that differ in their values and ids have in common."""

    cdef Input *inputs
    cdef int count
    cdef Py_ssize_t section_bytes
    cdef bint binary
    # 0 for the default; such a request is not taken if it asks for no time.
    cdef double timeout_s
    cdef int priority
    cdef object layout
    # The version's validator that was asked last, and what it found for this layout.
    cdef object validator, layout_in_frames
    cdef Py_ssize_t rows, input_bytes

    def __dealloc__(self):
        free(self.inputs)

    @staticmethod
    cdef Form with_inputs(Py_ssize_t count):
        cdef Form self = Form.__new__(Form)
        self.inputs = <Input *>malloc(count * sizeof(Input))
        if self.inputs == NULL:
            raise MemoryError
        self.count = count
        return self

    @staticmethod
    cdef Form of(object form):
        """Return None for a form that the fast path does not take."""
        if form is None or form.layout is None or not 0 < len(form.inputs) <= MAX_INPUTS:
            return None
        if form.options is not ALL_JSON and form.options is not ALL_BINARY:
            return None
        cdef Form self = Form.with_inputs(len(form.inputs))
        cdef Input *each
        for index, known in enumerate(form.inputs):
            each = &self.inputs[index]
            elements = prod(known.shape)
            if not 0 <= elements < MAX_ELEMENTS:
                return None
            each.count, each.code = elements, character_of(known.datatype)
            if not isinstance(known, rest_forms.Values):
                each.which, each.start, each.size = -1, known.start, known.stop - known.start
                continue
            if not each.code:
                return None
            each.which = known.which
            each.size = -1 if each.code == c"s" else each.count * DATATYPES[known.datatype].itemsize
        self.section_bytes = form.section_bytes
        self.binary = form.options is ALL_BINARY
        if form.timeout_s is not None and form.timeout_s <= 0:
            return None
        self.timeout_s = form.timeout_s or 0.0
        self.priority = form.priority
        self.layout = form.layout
        return self


cdef class Head:
    """What heads mean that differ in nothing that matters, as head_cache.Head."""

    cdef tuple model
    cdef Py_ssize_t limit, json_length

    @staticmethod
    cdef Head of(object head):
        """Return None if the fast path does not take such requests."""
        route, headers = head.route, head.headers
        if route.dialect is not V2 or headers.json_length == 0:
            return None
        cdef Head self = Head.__new__(Head)
        self.model, self.limit = (route.model, route.version), head.limit
        self.json_length = -1 if headers.json_length is None else headers.json_length
        return self


@cython.final
cdef class Texts:
    """The texts of answers with one layout, as rest_response._Texts."""

    cdef object layout
    # For JSON and binary, what comes before the values of each tensor, or instead of them, and what comes after the
    # last. For gRPC, the tags and lengths of all data, and the fields that come first.
    cdef tuple before
    cdef bytes end
    # Whether some tensors are strings.
    cdef bint strings
    # Of the tensors, for JSON; None for strings.
    cdef tuple dtypes


cdef class Model:
    """A Servable and what is needed of it for each request, until its status changes."""

    cdef object servable, validator, metrics, name, version
    cdef list finished, waited
    cdef bint usable
    cdef int default_priority
    # Texts by the address of their layout, which they keep, and the rows.
    cdef dict json_texts, binary_texts, grpc_texts

    def __init__(self, servable):
        status = servable.status
        self.servable, self.validator, self.metrics = servable, servable.validator, servable.metrics
        self.finished, self.waited = self.metrics.finished, self.metrics.waited
        self.name, self.version = status.name, status.version
        self.usable = status.admits and not servable.target_s
        self.default_priority = status.default_priority_level
        self.json_texts, self.binary_texts, self.grpc_texts = {}, {}, {}

    cdef Texts remember(self, dict known, Texts texts, uint64_t rows):
        """Keep texts in one of these dictionaries, where `known_texts` finds them."""
        if type(texts.layout) is not tuple:  # the others are too long to be cached, and new in each frame
            if len(known) >= MAX_CACHED:
                known.clear()
            known[(<Py_ssize_t><PyObject *>texts.layout, rows)] = texts
        return texts


@cython.final
cdef class Results:
    """The results of one frame, as wire.ResultGroup, and their tensors, as layouts.TensorGroup.

    Whoever reads them as `outputs` gets this object.
    """

    cdef readonly tuple numbers
    cdef readonly object layout
    # The bytes that were received, and where the body of the frame is in them.
    cdef bytes received
    cdef Py_ssize_t start, end
    cdef readonly bint final, first_of_batch, by_row
    cdef readonly uint64_t compute_input_ns, compute_infer_ns, compute_output_ns
    cdef readonly uint32_t batch_rows
    cdef readonly Py_ssize_t count
    cdef const uint64_t *queue
    cdef const uint64_t *each_rows
    # For each tensor: the bytes of a row, or of a member without rows, or -1; where it starts; of strings, the sizes of
    # the members.
    cdef Py_ssize_t units[MAX_INPUTS]
    cdef Py_ssize_t starts[MAX_INPUTS]
    cdef const uint64_t *sizes[MAX_INPUTS]
    cdef public object memo

    @property
    def outputs(self):
        return self

    @property
    def queue_ns(self):
        return tuple([self.queue[index] for index in range(self.count)])

    @property
    def rows(self):
        return tuple([self.each_rows[index] for index in range(self.count)])

    @property
    def offsets(self):
        """See TensorGroup."""
        return [0, *accumulate(self.rows)] if self.by_row else range(self.count + 1)

    cdef inline uint64_t rows_of(self, Py_ssize_t index) noexcept:
        return self.each_rows[index]

    def layout_of(self, Py_ssize_t member):
        return row_layout(self.layout, self.each_rows[member]) if self.by_row else self.layout

    def data(self, Py_ssize_t tensor, Py_ssize_t start, Py_ssize_t stop):
        cdef Py_ssize_t first = self.start + self.start_of(tensor, start)
        return memoryview(self.received)[first : self.start + self.start_of(tensor, stop)]

    cdef Py_ssize_t start_of(self, Py_ssize_t tensor, Py_ssize_t member) noexcept:
        """Where the bytes of a member begin, and those of the one before end."""
        cdef Py_ssize_t unit = self.units[tensor], found = self.starts[tensor], index
        if unit < 0:
            for index in range(member):
                found += self.sizes[tensor][index]
        elif self.by_row:
            for index in range(member):
                found += self.each_rows[index] * unit
        else:
            found += member * unit
        return found

    cdef Py_ssize_t size_of(self, Py_ssize_t tensor, Py_ssize_t member) noexcept:
        """The bytes of a member."""
        cdef Py_ssize_t unit = self.units[tensor]
        if unit < 0:
            return self.sizes[tensor][member]
        return self.each_rows[member] * unit if self.by_row else unit

    cdef char *put(self, char *to, Py_ssize_t tensor, Py_ssize_t member) noexcept:
        """Copy the bytes of a member."""
        cdef Py_ssize_t size = self.size_of(tensor, member)
        memcpy(to, PyBytes_AS_STRING(self.received) + self.start + self.start_of(tensor, member), size)
        return to + size

    cdef list json_values(self, Texts texts, Py_ssize_t member):
        """Return the values of a member, each tensor as JSON."""
        cdef Py_ssize_t tensor, count = len(texts.before)
        cdef list found = []
        if self.count == 1 and self.memo is None:
            for tensor in range(count):
                dtype = texts.dtypes[tensor]
                text = None
                if dtype is not None and 0 < self.units[tensor]:
                    size = self.size_of(tensor, 0)
                    array = frombuffer(self.received, dtype, size // dtype.itemsize, self.start + self.starts[tensor])
                    if size and array.nbytes == size and array.flags.aligned:
                        text = orjson_dumps(array, None, SERIALIZE_NUMPY)
                        if b"null" in text:  # values that are not finite
                            text = None
                found.append(rest_response.values_of_one(self, tensor, 0) if text is None else text)
            return found
        if self.memo is None:
            self.memo = [rest_response.values_of_all(self, tensor) for tensor in range(count)]
        for tensor in range(count):
            text = (<list>self.memo)[tensor]
            found.append(rest_response.values_of_one(self, tensor, member) if text is None else text[member])
        return found


@cython.final
cdef class Frames:
    """See gateway/engine/frames.py."""

    # The layouts used last, and their bytes.
    cdef object packed_layout
    cdef bytes packed
    # The tensors of `packed_layout` that are strings.
    cdef list strings
    cdef object unpacked_layout
    cdef bytes unpacked
    cdef bint unpacked_by_row

    def __init__(self):
        self.packed = self.unpacked = b""

    def pack(self, list requests):
        cdef list buffers = []
        cdef Py_ssize_t start = 0, stop, count = len(requests)
        cdef Request first, each
        while start < count:
            if not isinstance(requests[start], Request):
                return buffers + python_frames.pack(requests[start:])
            first = <Request>requests[start]
            stop = start + 1
            if first.buffers is None:  # see the Python code
                start = stop
                continue
            while stop < count and stop - start < MAX_REQUESTS_PER_FRAME and isinstance(requests[stop], Request):
                each = <Request>requests[stop]
                if each.layout is not first.layout or each.buffers is None or first.crashes or each.crashes:
                    break
                stop += 1
            buffers.append(self.pack_alike(requests, start, stop))
            start = stop
        return buffers

    cdef bytes pack_alike(self, list requests, Py_ssize_t start, Py_ssize_t stop):
        """Pack requests with the same layout into one frame, as wire.pack_requests does."""
        cdef Request each = <Request>requests[start]
        layout = each.layout
        if layout is not self.packed_layout:
            self.packed, self.packed_layout = pack_layout(layout), layout
            self.strings = [number for number, (_, _, _, bytes_of) in enumerate(layout[2]) if bytes_of < 0]
        cdef Py_ssize_t count = stop - start, tensors = len(<list>each.buffers), index, tensor, size
        cdef Py_ssize_t strings = len(self.strings)
        cdef Py_ssize_t total = 8 + 32 * count + PyBytes_GET_SIZE(self.packed)
        total += 8 * (strings * count + (strings * count & 1))
        for tensor in range(tensors):
            size = 0
            for index in range(start, stop):
                size += PyBytes_GET_SIZE((<list>(<Request>requests[index]).buffers)[tensor])
            total += size + (-size & 15)
        cdef bytes frame = PyBytes_FromStringAndSize(NULL, 24 + total)
        cdef char *begin = PyBytes_AS_STRING(frame)
        cdef uint64_t *head = <uint64_t *>begin
        head[0] = total
        begin[8], begin[9] = VERSION, INFER
        (<uint16_t *>begin)[5] = ISOLATED if each.crashes else 0
        (<uint32_t *>begin)[3] = 0
        head[2] = each.number
        (<uint16_t *>begin)[12], (<uint16_t *>begin)[13] = count, strings
        (<uint32_t *>begin)[7] = PyBytes_GET_SIZE(self.packed)
        head += 4
        for index in range(count):
            each = <Request>requests[start + index]
            head[index] = each.number
            (<double *>head)[count + index] = each.deadline
            (<int64_t *>head)[2 * count + index] = each.priority
            head[3 * count + index] = each.rows
        cdef char *to = put_bytes(<char *>(head + 4 * count), self.packed)
        if strings:
            head = <uint64_t *>to
            for tensor in self.strings:
                for index in range(start, stop):
                    head[0] = PyBytes_GET_SIZE((<list>(<Request>requests[index]).buffers)[tensor])
                    head += 1
            if strings * count & 1:
                head[0] = 0
                head += 1
            to = <char *>head
        for tensor in range(tensors):
            size = 0
            for index in range(start, stop):
                buffer = (<list>(<Request>requests[index]).buffers)[tensor]
                to = put_bytes(to, buffer)
                size += PyBytes_GET_SIZE(buffer)
            memset(to, 0, -size & 15)
            to += -size & 15
        return frame

    def read(self, reader, bytes data):
        """Return the frames that `data` completes, as the Python code does; see there."""
        cdef const char *begin = PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), position = 0, length
        cdef list received = []
        cdef Results found
        if not reader.is_idle:
            return python_frames.read(reader, data)
        while size - position >= 24:
            length = (<const uint64_t *>(begin + position))[0]
            if length < 0 or length > size - position - 24 or <uint8_t>begin[position + 8] != VERSION:
                break
            if <uint8_t>begin[position + 9] != RESULT:
                break
            found = Results.__new__(Results)
            found.received, found.start, found.end = data, position + 24, position + 24 + length
            flags = (<const uint16_t *>(begin + position))[5]
            found.final, found.first_of_batch = flags & FINAL != 0, flags & FIRST_OF_BATCH != 0
            if not self.parse(found):
                break
            received.append(found)
            position += 24 + length
        if position < size:
            received += python_frames.read(reader, data[position:])
        return received

    cdef bint parse(self, Results found) except -1:
        """Return False for a frame that the Python code must look at.

        Nothing in the frame is trusted: a worker runs code that its model's author may have written.
        """
        cdef const char *data = PyBytes_AS_STRING(found.received) + found.start
        cdef const uint64_t *head = <const uint64_t *>data
        cdef Py_ssize_t end = found.end - found.start, position, tensor, index, strings = 0
        if end < 40:
            return False
        cdef Py_ssize_t count = (<const uint32_t *>data)[7], length = (<const uint32_t *>data)[9]
        position = 40 + 24 * count + 8 * (count & 1)
        if position + length > end:
            return False
        found.compute_input_ns, found.compute_infer_ns, found.compute_output_ns = head[0], head[1], head[2]
        found.batch_rows, found.count = (<const uint32_t *>data)[6], count
        head += 5
        found.numbers = tuple([head[index] for index in range(count)])
        found.queue, found.each_rows = head + count, head + 2 * count
        if length != PyBytes_GET_SIZE(self.unpacked) or memcmp(data + position, PyBytes_AS_STRING(self.unpacked), length):
            self.unpacked = b""  # unpack_layout may raise
            text = PyBytes_FromStringAndSize(data + position, length)
            self.unpacked_layout = unpack_layout(text)
            self.unpacked_by_row = is_by_row(self.unpacked_layout)
            self.unpacked = text
        found.layout, found.by_row = self.unpacked_layout, self.unpacked_by_row
        position += length
        cdef tuple tensors = <tuple>(<tuple>found.layout)[2]
        if len(tensors) > MAX_INPUTS:
            return False
        for tensor in range(len(tensors)):
            found.units[tensor] = (<tuple>tensors[tensor])[3]
            if found.units[tensor] < 0:
                found.sizes[tensor] = <const uint64_t *>(data + position)
                position += 8 * count
                strings += 1
        position += 8 * (strings * count & 1)
        if position > end or strings != <Py_ssize_t>(<const uint32_t *>data)[8]:
            return False
        for tensor in range(len(tensors)):
            found.starts[tensor] = position
            for index in range(count):
                if found.units[tensor] < 0:
                    if found.sizes[tensor][index] > <uint64_t>end:
                        return False
                elif found.units[tensor] > end or (
                    # Divided, because the product may overflow.
                    found.by_row and found.units[tensor] and found.each_rows[index] > <uint64_t>(end // found.units[tensor])
                ):
                    return False
                position += found.size_of(tensor, index)
                if not 0 <= position <= end:
                    return False
            position += found.starts[tensor] - position & 15
        return True


@cython.freelist(256)
cdef class Request:
    """A QueuedRequest (servable.py)."""

    cdef readonly object id, layout
    cdef uint64_t number
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
        self.settle()
        self.model.finished.append(now - self.queued_at)
        cdef double seconds = results.queue_ns[index] if type(results) is not Results else (<Results>results).queue[index]
        self.model.waited.append(self.sent_at - self.queued_at + seconds * 1e-9)
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


@cython.final
cdef class HttpRequest(Request):
    """A request on one connection, in place of a HotRequest."""

    cdef Receiver receiver
    cdef bint binary
    cdef readonly bint response_complete
    # uvicorn sets it to False when it shuts down.
    cdef public bint keep_alive

    waits_for_body = False

    def encode_error(self, error):
        return V2.encode_error(error)

    def abandon(self):
        """End without an answer: the client has disconnected."""
        if not self.response_complete:
            self.end()
            self.cancel()

    cdef Receiver end(self):
        """End the request, and return where its answer goes."""
        cdef Receiver receiver = self.receiver
        self.receiver = None
        self.response_complete = True
        return receiver

    cdef void deliver(self, Results results, Py_ssize_t index, double now) except *:
        cdef Receiver receiver = self.end()
        cdef Texts texts = None
        cdef list values = None
        reply = None
        try:
            texts = self.path.texts_of(self.model, results, index, self.binary)
            if texts is None or (texts.strings and not self.path.are_within_limits(texts, results, index)):
                reply = self.path.written(self, results, index)
            elif not self.binary:
                values = results.json_values(texts, index)
        except Exception as error:
            reply = error_reply(V2, error)
        if reply is not None:
            receiver.connection.answer(reply, self.keep_alive)
            return
        receiver.write(texts, results, index, values, self.client_id, self.keep_alive, now)
        # It is used again as if it were new.
        self.worker, self.crashes = None, 0
        receiver.spare = self

    cdef void deliver_slowly(self, object group, Py_ssize_t index) except *:
        self.end().connection.answer(self.path.written(self, group, index), self.keep_alive)

    cdef void deliver_error(self, object error) except *:
        self.end().connection.answer(error_reply(V2, error), self.keep_alive)


cdef class FastPath:
    """What the requests of one front share.

    It belongs to one engine; its receivers and calls ask it for each request.
    """

    cdef object engine, limits, at_boundary, routes, admission, deadlines, shared, heads
    cdef object bucket
    cdef dict timeouts, known
    cdef double timeout_s
    cdef Py_ssize_t max_requests, max_bytes, share
    # Whether connections stay open.
    cdef public bint keep_alive
    cdef object forms, reduced
    # The names of lines in which heads may differ; for each length of a name, a bit for each first letter.
    cdef tuple varying
    cdef uint32_t initials[32]
    cdef dict models
    cdef list default_headers
    cdef bytes json_prefix, binary_prefix

    def __init__(self, engine, limits):
        if type(engine.frames) is not Frames:
            raise TypeError("the engine of a fast path must have its Frames")
        self.engine, self.limits = engine, limits
        self.routes, self.admission, self.deadlines = engine.routes, engine.admission, engine.deadlines
        self.known = self.routes.known
        limits = self.admission.limits
        self.timeout_s, self.max_requests, self.max_bytes = limits.timeout_s, limits.max_requests, limits.max_bytes
        self.share = limits.share
        self.keep_alive = True
        self.bucket = self.deadlines.bucket(self.timeout_s)
        self.timeouts = self.bucket.items
        self.forms = BoundedCache(MAX_CACHED)
        self.reduced = BoundedCache(MAX_CACHED)
        self.models = {}
        self.default_headers = None

    def serve_http(self, shared, at_boundary):
        """`at_boundary`: the state of a connection between two requests."""
        self.shared, self.heads, self.at_boundary = shared, shared.heads, at_boundary
        self.varying = tuple(self.heads.varying)
        for name in self.varying:
            self.initials[<int>len(name)] |= 1 << (<int>name[0] & 31)

    def receiver(self, connection):
        return Receiver(connection, self.shared.receive_buffer, self)

    def calls(self, reader, writer, dict handles, list answers, respond, fail, Py_ssize_t max_size):
        return Calls(self, reader, writer, handles, answers, respond, fail, max_size)

    cdef bint take(self, Receiver receiver, const char *data, Py_ssize_t size) except -1:
        """Take the request that these bytes are, if they are one. Return False if the Python code must look at it."""
        cdef const char *found = find_bytes(data, size, b"\r\n\r\n", 4)
        if found == NULL or found - data > MAX_HEAD:
            return False
        cdef const char *body = found + 4
        cdef Py_ssize_t length = size - (body - data), json_length, head_size = found - data
        if not receiver.repeats_head(data, head_size, length):
            receiver.head = self.head_of(data, head_size, length)
            receiver.head_text, receiver.body_length = PyBytes_FromStringAndSize(data, head_size), length
        cdef Head head = receiver.head
        if head is None:
            return False
        json_length = length if head.json_length < 0 else head.json_length
        if json_length > length or (head.json_length >= 0 and json_length > MAX_UNCOUNTED):
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
        cdef Py_ssize_t string_bytes = 0
        for index in range(form.count):
            each = &form.inputs[index]
            if each.which < 0:
                found = body + json_length + each.start
                if each.code == c"s":
                    if not are_strings(found, each.size, each.count):
                        return False
                    string_bytes += each.size
                buffers.append(PyBytes_FromStringAndSize(found, each.size))
                continue
            if each.which >= count:
                return False
            packed = pack(each, lists[each.which], sizes[each.which])
            if packed is None:
                return False
            if each.size < 0:
                string_bytes += PyBytes_GET_SIZE(packed)
            buffers.append(packed)
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
        if not self.admit(request, head.model, form, string_bytes, form.timeout_s):
            return False
        request.receiver, request.response_complete, request.keep_alive = receiver, False, True
        if receiver.request is not request:
            receiver.request = receiver.connection.cycle = request
        request.model.servable.put(request)
        return True

    cdef Head head_of(self, const char *text, Py_ssize_t size, Py_ssize_t length):
        """Return None if the Python code must look at the head."""
        cdef char key[MAX_HEAD + 2]
        cdef Py_ssize_t stated
        cdef Py_ssize_t key_size = self.reduce(text, size, key, &stated)
        if key_size < 0 or stated != length:
            return None
        cdef bytes lines = PyBytes_FromStringAndSize(key, key_size)
        cdef PyObject *entry = PyDict_GetItem(self.reduced.entries, lines)
        cdef Head known
        if entry != NULL:
            known = <Head>entry
        else:
            head, _ = self.heads.find_reduced(PyBytes_FromStringAndSize(text, size))
            known = None if head is None else Head.of(head)
            if known is None:
                return None
            self.reduced.put(lines, known)
        return known if length <= known.limit else None

    cdef Py_ssize_t reduce(self, const char *text, Py_ssize_t size, char *key, Py_ssize_t *length) except -2:
        """Write the lines of a head to `key` that may not differ, as head_cache.py does, and find the body's length.

        Return the size of the key; -1 if the head has no length, or several.
        """
        cdef const char *end = text + size
        cdef const char *stop
        cdef const char *colon
        cdef char *to = key
        length[0] = -1
        while text < end:
            stop = find_bytes(text, end - text, b"\r\n", 2)
            if stop == NULL:
                stop = end
            colon = <const char *>memchr(text, c":", stop - text)
            if colon != NULL and self.may_vary(text, colon - text) and is_plain_text(colon + 1, stop - colon - 1):
                if is_name(b"content-length", 14, text, colon - text):
                    if length[0] >= 0:
                        return -1
                    length[0] = read_length(colon + 1, stop)
                    if length[0] < 0:
                        return -1
            else:
                memcpy(to, text, stop - text)
                to += stop - text
                memcpy(to, b"\r\n", 2)
                to += 2
            text = stop + 2
        return to - key if length[0] >= 0 else -1

    cdef bint may_vary(self, const char *name, Py_ssize_t size) except -1:
        """Whether heads may differ in the line of this name."""
        cdef bytes each
        if not 0 < size < 32 or not self.initials[size] >> (name[0] & 31) & 1:
            return False
        for each in self.varying:
            if is_name(PyBytes_AS_STRING(each), PyBytes_GET_SIZE(each), name, size):
                return True
        return False

    cdef bint admit(
        self, Request request, tuple name, Form form, Py_ssize_t string_bytes, double timeout_s
    ) except -1:
        """Do what FrontEngine.submit does, if nothing is in the way. Otherwise return False, with nothing changed.

        timeout_s  the time until the request's deadline; 0 for the default
        """
        cdef PyObject *entry = PyDict_GetItem(self.known, name)
        if entry == NULL or self.engine.draining:
            return False
        servable = <object>entry
        entry = PyDict_GetItem(self.models, servable)
        cdef Model model
        if entry == NULL or (<Model>entry).validator is not servable.validator:
            servables = set(self.routes.servables())
            for each in [each for each in self.models if each not in servables]:
                del self.models[each]
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
        if self.routes.has_several_models and servable.under_way >= self.share:
            return False
        admission.requests = requests + 1
        admission.admitted_bytes = admitted + size
        number = self.engine.last_id + 1
        self.engine.last_id = number
        request.number = number
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
            self.deadlines.add(request, self.timeout_s if timeout_s == 0 else None)
        return True

    cdef bint are_within_limits(self, Texts texts, Results results, Py_ssize_t index) except -1:
        """Whether an answer with strings is short enough for the fast path."""
        cdef Py_ssize_t size = 0, tensor
        for tensor in range(len(texts.before)):
            size += results.size_of(tensor, index)
        return size <= self.limits.response_bytes and size <= self.limits.json_answer_bytes

    cdef Texts texts_of(self, Model model, Results group, Py_ssize_t index, bint binary):
        """Return the texts around the values of an answer; None if the Python code must write it."""
        cdef dict known = model.binary_texts if binary else model.json_texts
        cdef Texts texts = known_texts(known, group, index)
        if texts is not None:
            return texts
        found = rest_response.texts_of(model.name, model.version, group, index, binary)
        limits = self.limits
        if found.size > limits.response_bytes or found.size > limits.json_answer_bytes:
            return None
        if not found.before or (found.strings and binary):
            return None
        texts = Texts.__new__(Texts)
        texts.layout, texts.before, texts.end = group.layout, found.before, found.end
        texts.strings = bool(found.strings)
        texts.dtypes = tuple([numpy_dtype(each[1]) if each[1] != "BYTES" else None for each in group.layout[2]])
        return model.remember(known, texts, group.rows_of(index))

    cdef object written(self, HttpRequest request, object group, Py_ssize_t index):
        """Return the Reply with an answer, written by the Python code."""
        options = ALL_BINARY if request.binary else ALL_JSON
        try:
            return rest.write(self.engine, self.limits, options, request.response(group, index))
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
    # The head of the last request, and the length of the body behind it. Most clients repeat it.
    cdef Head head
    cdef bytes head_text
    cdef Py_ssize_t body_length

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

    cdef bint repeats_head(self, const char *text, Py_ssize_t size, Py_ssize_t length) noexcept:
        """Whether the last request had this very head, and a body of this length."""
        if self.head is None or length != self.body_length or size != PyBytes_GET_SIZE(self.head_text):
            return False
        return not memcmp(text, PyBytes_AS_STRING(self.head_text), size)

    cdef bint is_free(self) except -1:
        """Whether the connection is between requests, and nothing about it is unusual."""
        connection = self.connection
        if connection.receiving is not self.path.at_boundary or connection.confirms_keep_alive:
            return False
        cycle, flow = connection.cycle, connection.flow
        return (cycle is None or cycle.response_complete) and not flow.read_paused and not connection.pipeline

    cdef void write(
        self,
        Texts texts,
        Results results,
        Py_ssize_t member,
        list values,
        bytes client_id,
        bint keep_alive,
        double now,
    ) except *:
        """Write an answer, as rest_response and HttpConnection.answer do. `values`: in JSON; None for binary."""
        cdef bint binary = values is None
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
            size += results.size_of(index, member) if binary else PyBytes_GET_SIZE(<object>PyList_GET_ITEM(values, index))
        size += text
        cdef char head[256]
        cdef int head_size
        if binary:
            head_size = snprintf(head, 256, b"%zd\r\ninference-header-content-length: %zd\r\n", size, text)
        else:
            head_size = snprintf(head, 256, b"%zd\r\n", size)
        keep_alive = keep_alive and path.keep_alive
        if not keep_alive:
            head_size += snprintf(head + head_size, 256 - head_size, b"connection: close\r\n")
        elif not self.alone and self.connection.confirms_keep_alive:
            head_size += snprintf(head + head_size, 256 - head_size, b"connection: keep-alive\r\n")
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
        if client_id is None:
            memcpy(to, b"]}", 2)
            to += 2
        else:
            memcpy(to, b'],"id":"', 8)
            to = put_bytes(to + 8, client_id)
            memcpy(to, b'"}', 2)
            to += 2
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


cdef inline char *put_bytes(char *to, object text) noexcept:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
    memcpy(to, PyBytes_AS_STRING(text), size)
    return to + size


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
    max_size  the bytes of the longest answer
    """

    cdef FastPath path
    cdef dict handles
    cdef list answers
    cdef object respond, fail, reader, writer, forms
    cdef Py_ssize_t max_size
    # The fields of the last message that name the model and its version, and these names.
    cdef bytes named
    cdef tuple model

    def __init__(self, FastPath path, reader, writer, dict handles, list answers, respond, fail, Py_ssize_t max_size):
        self.reader, self.writer = reader, writer
        self.path, self.handles, self.answers, self.respond, self.fail = path, handles, answers, respond, fail
        self.max_size = max_size
        self.forms = BoundedCache(MAX_CACHED)
        self.named = b""
        self.model = ("", "")

    def take(self, call, bytes message, seconds):
        """Take a call with this message and, unless it is None, this time until its deadline.

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
        cdef double timeout_s = 0
        if seconds is not None:
            timeout_s = seconds
            if timeout_s <= 0:
                return False
        if not self.path.admit(request, self.model, form, string_bytes, timeout_s):
            return False
        request.calls, request.call = self, call
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

    cdef void answer_slowly(self, GrpcRequest request, object group, Py_ssize_t index) except *:
        """Let the Python code write an answer."""
        try:
            outcome = self.writer.write(ALL_BINARY, request.response(group, index))
        except Exception as error:
            outcome = error
        self.fail(request.call, outcome)

    cdef Texts texts_of(self, Model model, Results group, Py_ssize_t index):
        """Return the fields around the data of an answer; None if the Python code must write it."""
        cdef Texts texts = known_texts(model.grpc_texts, group, index)
        if texts is not None:
            return texts
        found = self.writer.fields(model.name, model.version, group, index)
        if found.size > self.path.limits.response_bytes or None in found.heads:
            return None
        texts = Texts.__new__(Texts)
        texts.layout, texts.before, texts.end = group.layout, tuple(found.heads), found.start
        return model.remember(model.grpc_texts, texts, group.rows_of(index))


cdef Texts known_texts(dict known, Results group, Py_ssize_t index):
    cdef PyObject *entry = PyDict_GetItem(known, (<Py_ssize_t><PyObject *>group.layout, group.rows_of(index)))
    return None if entry == NULL else <Texts>entry


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


cdef bint are_strings(const char *data, Py_ssize_t size, Py_ssize_t count) noexcept:
    """Whether these bytes are as many elements of a BYTES tensor."""
    cdef Py_ssize_t position = 0, found = 0
    cdef uint32_t length
    while position < size:
        if size - position < 4:
            return False
        memcpy(&length, data + position, 4)
        position += 4
        if length > size - position:
            return False
        position += length
        found += 1
    return found == count


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


cdef char character_of(str datatype) except? 0:
    """Return the struct module's character for a datatype, s for strings, or 0 if there is none."""
    code = "s" if datatype == "BYTES" else code_of(datatype)
    return ord(code) if code else 0


cdef Py_ssize_t read_length(const char *value, const char *end) noexcept:
    """Return the value of a Content-Length; -1 if it is not just digits, without leading zeros."""
    cdef Py_ssize_t number = 0, digits = 0
    while value < end and value[0] == c" ":
        value += 1
    while value < end and c"0" <= value[0] <= c"9" and digits < 18:
        number = 10 * number + (value[0] - c"0")
        if not number:
            return -1
        value += 1
        digits += 1
    while value < end and value[0] == c" ":
        value += 1
    return number if value == end and digits else -1


cdef inline bint is_name(const char *lower, Py_ssize_t lower_size, const char *name, Py_ssize_t size) noexcept:
    """Whether a header has this name, which is given in lower case."""
    cdef Py_ssize_t index
    cdef char letter
    if size != lower_size:
        return False
    for index in range(size):
        letter = name[index]
        if lower[index] != (letter + 32 if c"A" <= letter <= c"Z" else letter):
            return False
    return True


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
    cdef object value
    if not PyList_CheckExact(values) or PyList_GET_SIZE(values) != each.count:
        return None
    if each.code == c"s":
        for value in <list>values:
            if not PyUnicode_CheckExact(value):
                return None
        return pack_bytes(values)
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, each.size)
    cdef char *data = PyBytes_AS_STRING(packed)
    cdef Py_ssize_t index
    cdef double number
    cdef float single
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
    cdef Py_ssize_t width = each.size // each.count if each.count else 0
    for index in range(each.count):
        value = <object>PyList_GET_ITEM(values, index)
        # Unsigned datatypes have upper-case letters.
        if not PyLong_CheckExact(value) or not pack_integer(data + index * width, width, code > c"Z", value):
            return None
    return packed


cdef bint pack_integer(char *data, Py_ssize_t width, bint signed_, object value) except -1:
    """Write an integer of `width` bytes. Return False, or raise OverflowError, if the value does not fit."""
    cdef int overflow = 0
    cdef int64_t number = PyLong_AsLongLongAndOverflow(value, &overflow)
    cdef uint64_t unsigned
    # The bits beyond those of the datatype: none, or copies of the sign.
    cdef int64_t rest = number >> (8 * width - 1) if signed_ or width == 8 else number >> (8 * width)
    if overflow > 0 and width == 8 and not signed_:
        unsigned = PyLong_AsUnsignedLongLong(value)
        memcpy(data, &unsigned, 8)
        return True
    if overflow or not (rest == 0 or (signed_ and rest == -1)):
        return False
    memcpy(data, &number, width)
    return True
