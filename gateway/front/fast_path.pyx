# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, binding=False, cdivision=True
"""The fast path: usual requests, from the bytes of a connection to the worker's frame and back, compiled.

It takes a request only if nothing about it is unusual, which it finds out before it changes anything; `take` then
returns False, and the Python code does all of the work. Nothing is decided here: what a head and a form mean is learned
from the Python code (head_cache.py, rest_forms.py, nested_forms.py, grpc_request.py), and so is whether a layout is
valid (validate.py). What is here is the bookkeeping of admitted_requests.py and hot_request.py for a request that goes
well, with the fields of a request in a C structure instead of a dozen Python objects.

The files in compiled/ are one module, which C compilers see whole; each is about one subject:

    bytes, values     bytes and numbers, without Python objects where possible
    heads             what a head means
    forms             what bodies have in common that differ only in values and ids
    nested            the same for dialects whose values are nested lists
    answers           the texts and values of answers
    frames            frames to and from a worker
    tally             what identities have in progress
    requests          the life of a request between its transport and its worker
    admission         what the requests of a front share, and their admission
    graphs, steps     pipelines whose steps all run: requests to the models of their steps
    http, grpc        the transports

    take ── head known? ── form known? ── layout valid? ── admitted? ── put into the model's queue
    answer ── settled, counted ── text or message from the frame's outputs ── written
    fail, cancel, abandon ── settled, counted ── the Python code writes the error

States of a request (states.py has those of a HotRequest): it begins INFERRING and ends DONE; no other applies, because
its body is complete, it is next in turn, and its answer is not compressed.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
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
from functools import partial
from itertools import accumulate
from math import prod

import orjson
from numpy import frombuffer

from gateway.domain.request_record import CANCELLED
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine import admitted_requests, frames
from gateway.codecs.protobuf_fields import field as field_of
from gateway.front.dialects.plain import predict as plain_predict, rest as plain_rest
from gateway.front.dialects.tfserving import predict as tfserving_predict, rest as tfserving_rest
from gateway.front.dialects.v2 import rest, rest_forms, rest_request, rest_response
from gateway.front.dialects.v2.known_input import code_of
from gateway.front.dialects.v2.output_options import ALL_BINARY, ALL_JSON
from gateway.front.base import dialect, nested_forms, parameters
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.pipeline_compiled import Progress
from gateway.engine.servable import as_request
from gateway.errors import ModelportError
from gateway.front.base.client_errors import to_client_error
from gateway.front.base.dialect import error_reply
from gateway.front.base.records import traceparent_of
from gateway.front.base.request_ids import header_line
from runtimes.bounded_cache import BoundedCache
from runtimes.contract import DATATYPES, numpy_dtype
from runtimes.fair_order import LEVEL_BITS as PYTHON_LEVEL_BITS
from runtimes import wire
from runtimes.layouts import GroupedTensors, cached, layout_with_rows, is_by_row, pack_layout, unpack_layout
from runtimes.tensor_bytes import Tensor
from runtimes.tensors import pack_bytes

log = logging.getLogger("gateway.engine.engine")

if wire.VERSION != 8:
    raise ImportError(f"it packs frames of version 8, but runtimes/wire.py of version {wire.VERSION}")

DEF MAX_HEAD = 2048
DEF MAX_LISTS = 32
DEF MAX_KEY = 8192
DEF MAX_INPUTS = 32
DEF MAX_MESSAGE = 65536
DEF MAX_PARAMETERS = 1024
# Entries of a cache, as of those in the Python code.
DEF MAX_CACHED = 1024
# More do not fit into a message. Shapes claim more, and Python says what is wrong with them.
DEF MAX_ELEMENTS = 1 << 40

cdef object V2 = rest.V2
cdef Py_ssize_t MAX_JOINED_BYTES = dialect.MAX_JOINED_BYTES
cdef double MAX_WAIT_S = admitted_requests.MAX_WAIT_S
cdef Py_ssize_t MAX_UNCOUNTED = rest_request.MAX_UNCOUNTED
cdef object orjson_loads = orjson.loads
cdef object orjson_dumps = orjson.dumps
cdef object SERIALIZE_NUMPY = orjson.OPT_SERIALIZE_NUMPY
cdef object row_layout = layout_with_rows
cdef object python_frames = frames.Frames()
cdef Py_ssize_t MAX_REQUESTS_PER_FRAME = frames.MAX_REQUESTS_PER_FRAME
cdef int LEVEL_BITS = PYTHON_LEVEL_BITS
cdef frozenset DEFINED_PARAMETERS = parameters.DEFINED
cdef str DEFINED_PREFIX = parameters.DEFINED_PREFIX
cdef int MAX_PRIORITY = parameters.MAX_PRIORITY
cdef uint8_t VERSION = wire.VERSION, INFER = wire.INFER, RESULT = wire.RESULT
cdef uint16_t ISOLATED = wire.ISOLATED, FINAL = wire.FINAL, FIRST_OF_BATCH = wire.FIRST_OF_BATCH
cdef uint16_t IN_RESULT_MEMORY = wire.IN_RESULT_MEMORY, IN_ARENA = wire.IN_ARENA

include "compiled/bytes.pxi"
include "compiled/values.pxi"
include "compiled/heads.pxi"
include "compiled/answers.pxi"
include "compiled/forms.pxi"
include "compiled/frames.pxi"
include "compiled/nested.pxi"
include "compiled/tally.pxi"
include "compiled/requests.pxi"
include "compiled/admission.pxi"
include "compiled/graphs.pxi"
include "compiled/steps.pxi"
include "compiled/http.pxi"
include "compiled/grpc_parameters.pxi"
include "compiled/grpc.pxi"
