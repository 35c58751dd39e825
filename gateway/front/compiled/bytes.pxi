cdef inline double monotonic() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef inline char *put_bytes(char *to, object text) noexcept:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
    memcpy(to, PyBytes_AS_STRING(text), size)
    return to + size


cdef bint is_plain_text(const char *text, Py_ssize_t size) noexcept:
    """Whether this is printable ASCII, which JSON writes as it is."""
    cdef Py_ssize_t index
    for index in range(size):
        if not 32 <= <uint8_t>text[index] < 127:
            return False
    return True


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
