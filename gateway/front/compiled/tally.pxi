@cython.final
cdef class Tally:
    """See gateway/engine/tally.py."""

    cdef public Py_ssize_t requests, bytes_held, admitted, admitted_bytes, counted, permits
    cdef public double permitted_bytes, until
    cdef public bint has_quota, counts_in_flight
    cdef readonly int64_t flow
    cdef Py_ssize_t max_requests, max_bytes
    # The page, which stays mapped as long as there is a view of it, and the cell.
    cdef Py_buffer page
    cdef double *cell
    cdef bint alone

    def __init__(self, int64_t flow, Py_ssize_t max_requests, Py_ssize_t max_bytes):
        self.flow, self.max_requests, self.max_bytes = flow, max_requests, max_bytes

    def __dealloc__(self):
        self.leave()

    cdef void leave(self):
        if self.cell != NULL:
            PyBuffer_Release(&self.page)
            self.cell = NULL

    def place(self, cells, Py_ssize_t index, bint alone):
        if not 0 <= index < len(cells) or cells.itemsize != sizeof(double):
            raise IndexError("the page has no such cell")
        self.leave()
        PyObject_GetBuffer(cells, &self.page, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.cell, self.alone = <double *>self.page.buf + index, alone

    def admits(self, Py_ssize_t size, Py_ssize_t requests, Py_ssize_t admitted_bytes, double now):
        return self.admits_now(size, requests, admitted_bytes, now)

    cdef bint admits_now(self, Py_ssize_t size, Py_ssize_t requests, Py_ssize_t admitted_bytes, double now) noexcept:
        if self.requests > self.max_requests - requests:
            return False
        if self.bytes_held and self.bytes_held > self.max_bytes - admitted_bytes:
            return False
        if self.has_quota and not self.permitted(size, now):
            return False
        self.add(size)
        return True

    def use_permit(self, Py_ssize_t size, double now):
        return self.permitted(size, now)

    cdef bint permitted(self, Py_ssize_t size, double now) noexcept:
        if not self.permits or size > self.permitted_bytes or now >= self.until:
            return False
        self.permits -= 1
        self.permitted_bytes -= size
        if self.counts_in_flight:
            self.count(1)
        return True

    cpdef void add(self, Py_ssize_t size) noexcept:
        self.requests += 1
        self.bytes_held += size
        self.admitted += 1
        self.admitted_bytes += size

    cpdef void end(self, Py_ssize_t size) noexcept:
        self.requests -= 1
        self.bytes_held -= size
        if self.counted:
            self.count(-1)

    cpdef void count(self, Py_ssize_t more) noexcept:
        self.counted += more
        if self.cell != NULL:
            self.cell[0] = self.counted if self.alone else self.cell[0] + more
