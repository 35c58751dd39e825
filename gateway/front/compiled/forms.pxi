cdef struct Input:
    # The index of its list in the JSON or of its contents in the message, or -1 if its bytes follow the JSON, from
    # `start` on.
    int which
    # The struct module's character for its values, or s for strings.
    char code
    # Its values, and its bytes; the latter are -1 for strings in JSON or in a message.
    Py_ssize_t count, size, start


cdef class Form:
    """What requests that differ in their values and ids have in common: a rest_forms.Form, or a NestedForm.

    One without inputs is of requests that the fast path does not take.
    """

    cdef Input *inputs
    cdef int count
    cdef Py_ssize_t section_bytes
    cdef Kind kind
    # Its dialect, and what writes its answers if the fast path does not.
    cdef object dialect, writer
    # For a NestedForm: the validator of the version from whose status it was learned, the rows of its answers (0 or 1
    # for any number), and whether an only output has its name in TensorFlow Serving's dialect too.
    cdef object learned_of
    cdef Py_ssize_t instances
    cdef bint has_names
    # 0 for the default; such a request is not taken if it asks for no time.
    cdef double timeout_s
    cdef int priority
    # Whether it has parameters of the client's own, or a sequence, which the fast path ignores. Pipelines do not.
    cdef bint has_own
    cdef object layout
    # The version's validator that was asked last, and what it found for this layout.
    cdef object validator, layout_in_frames
    cdef Py_ssize_t rows, input_bytes

    def __dealloc__(self):
        free(self.inputs)

    @staticmethod
    cdef Form with_inputs(Py_ssize_t count):
        cdef Form self = Form.__new__(Form)
        self.inputs = <Input *>malloc((count or 1) * sizeof(Input))
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
        self.dialect = V2
        self.kind = BINARY if form.options is ALL_BINARY else JSON
        if form.timeout_s is not None and form.timeout_s <= 0:
            return None
        self.timeout_s = form.timeout_s or 0.0
        self.priority = form.priority
        self.has_own = bool(form.parameters) or form.sequence is not None
        self.layout = form.layout
        return self


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
