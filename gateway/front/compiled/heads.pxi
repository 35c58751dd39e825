cdef class Head:
    """What heads mean that differ in nothing that matters, as head_cache.Head."""

    cdef object head, identity
    cdef Kind kind
    cdef tuple model
    cdef Py_ssize_t limit, json_length
    # With what the keys of nested forms begin.
    cdef bytes key

    @staticmethod
    cdef Head of(object head):
        """Return None if the fast path does not take such requests."""
        route, headers, identity = head.route, head.headers, head.identity
        if head.cors:
            return None  # Python adds its lines to the answer
        # Python denies what is not allowed, and what this depends on that the body has to name.
        if identity is not None and not (route.model and identity.allows("infer", route.model)):
            return None
        cdef Head self = Head.__new__(Head)
        self.identity = identity
        self.head, self.model, self.limit = head, (route.model, route.version), head.limit
        self.json_length = -1
        if route.dialect is V2 and headers.json_length != 0:
            self.kind = JSON
            self.json_length = -1 if headers.json_length is None else headers.json_length
        elif route.dialect is plain_rest.PREDICT and plain_predict.is_json(headers):
            self.kind = PLAIN
        elif route.dialect is tfserving_rest.PREDICT and not route.is_label:
            self.kind = COLUMNS
        else:
            return None
        # Neither name has a byte of 0, and no key of another form begins with these bytes.
        self.key = b"%c%b\0%b\0" % (KINDS + self.kind, route.model.encode(), route.version.encode())
        return self if len(self.key) < MAX_HEAD else None


@cython.final
cdef class Heads:
    """Finds heads that differ in nothing that matters from one that head_cache.py knows."""

    cdef object cache, known
    # The names of lines in which heads may differ; for each length of a name, a bit for each first letter.
    cdef tuple varying
    cdef uint32_t initials[32]
    # The id of the request whose head was looked for last; None if it has none.
    cdef bytes request_id

    def __init__(self, cache):
        self.cache, self.known = cache, BoundedCache(MAX_CACHED)
        self.varying = tuple(cache.varying)
        for name in self.varying:
            self.initials[<int>len(name)] |= 1 << (<int>name[0] & 31)

    cdef Head find(self, const char *text, Py_ssize_t size, Py_ssize_t length):
        """Return None if the Python code must look at the head."""
        cdef char key[MAX_HEAD + 2]
        cdef Py_ssize_t stated
        cdef Py_ssize_t key_size = self.reduce(text, size, key, &stated)
        if key_size < 0 or stated != length:
            return None
        cdef bytes lines = PyBytes_FromStringAndSize(key, key_size)
        cdef PyObject *entry = PyDict_GetItem(self.known.entries, lines)
        cdef Head found = None
        if entry != NULL:
            found = <Head>entry
        if found is None or not is_valid(found.identity):
            head, _ = self.cache.find_reduced(PyBytes_FromStringAndSize(text, size))
            found = None if head is None else Head.of(head)
            if found is None:
                return None
            self.known.put(lines, found)
        return found if length <= found.limit else None

    cdef Py_ssize_t reduce(self, const char *text, Py_ssize_t size, char *key, Py_ssize_t *length) except -2:
        """Write the lines of a head to `key` that may not differ, as head_cache.py does, and find the body's length.

        Return the size of the key; -1 if the head has no length, or several.
        """
        cdef const char *end = text + size
        cdef const char *stop
        cdef const char *colon
        cdef char *to = key
        cdef bint named = False
        length[0] = -1
        self.request_id = None
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
                elif not named and is_name(b"x-request-id", 12, text, colon - text):
                    named = True
                    self.request_id = read_id(colon + 1, stop)
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


cdef inline bint is_valid(object identity) except -1:
    """See Identity.is_valid. Without an identity, everything is allowed."""
    if identity is None:
        return True
    return identity.withdrawn is False and monotonic() < <double>identity.expires


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


cdef object traceparent(const char *text, Py_ssize_t size):
    """Return the value of the header of that name, or an empty text."""
    cdef const char *end = text + size
    cdef const char *stop
    while text < end:
        stop = find_bytes(text, end - text, b"\r\n", 2)
        if stop == NULL:
            stop = end
        if stop - text > 12 and text[11] == c":" and is_name(b"traceparent", 11, text, 11):
            return PyBytes_FromStringAndSize(text + 12, stop - text - 12).strip().decode("latin-1")
        text = stop + 2
    return ""


cdef bytes read_id(const char *value, const char *end):
    """Return the id in the value of x-request-id, as request_ids.valid_id does; None if it is none."""
    cdef Py_ssize_t index
    while value < end and (value[0] == c" " or value[0] == c"\t"):
        value += 1
    while value < end and (end[-1] == c" " or end[-1] == c"\t"):
        end -= 1
    if not 0 < end - value <= 128:
        return None
    for index in range(end - value):
        if not 32 < <uint8_t>value[index] < 127:
            return None
    return PyBytes_FromStringAndSize(value, end - value)


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
