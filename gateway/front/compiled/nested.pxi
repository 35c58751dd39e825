cdef enum:
    MAX_RANK = 8

# For each byte, whether it can be in a nested list of numbers: 1, [ is 2, ] is 3.
cdef uint8_t IN_LIST[256]
cdef char _character
memset(IN_LIST, 0, 256)
for _character in b"0123456789+-.eE, \t\r\n":
    IN_LIST[<uint8_t>_character] = 1
IN_LIST[<uint8_t>c"["], IN_LIST[<uint8_t>c"]"] = 2, 3


cdef struct Shape:
    int rank
    uint32_t sizes[MAX_RANK]


cdef const char *find_list(const char *text, const char *end, const char **stop) noexcept:
    """Return where the next list begins that has nothing but lists or numbers, and where it ends; NULL without one.

    One within a list that has anything else may be left out.
    """
    cdef const char *start
    cdef int depth
    cdef uint8_t kind
    while True:
        start = <const char *>memchr(text, c"[", end - text)
        if start == NULL:
            return NULL
        text, depth = start, 0
        while text < end:
            kind = IN_LIST[<uint8_t>text[0]]
            if not kind:
                break
            text += 1
            if kind == 2:
                depth += 1
            elif kind == 3:
                depth -= 1
                if not depth:
                    stop[0] = text
                    return start


cdef bint find_shape(object values, Shape *shape) except -1:
    """Find the shape of nested lists, of which only the first ones are looked at. Return False if it has no values."""
    shape.rank = 0
    while PyList_CheckExact(values):
        if shape.rank == MAX_RANK or not PyList_GET_SIZE(values):
            return False
        shape.sizes[shape.rank] = PyList_GET_SIZE(values)
        shape.rank += 1
        values = <object>PyList_GET_ITEM(values, 0)
    return True


cdef object pack_nested(Input *each, object values, Shape *shape):
    """Return the bytes of an input with these nested lists, or None if they must be looked at."""
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, each.size)
    try:
        return packed if write_nested(PyBytes_AS_STRING(packed), each.size, each.code, values, shape, 0) else None
    except OverflowError:
        return None


cdef bint write_nested(
    char *data, Py_ssize_t size, char code, object values, Shape *shape, int depth
) except -1:
    """Write nested lists as `size` bytes. Return False if they do not have this shape, or a value does not fit."""
    cdef Py_ssize_t count = shape.sizes[depth], index
    if depth + 1 == shape.rank:
        return write_numbers(data, size // count, code, values, count)
    if not PyList_CheckExact(values) or PyList_GET_SIZE(values) != count:
        return False
    size //= count
    for index in range(count):
        if not write_nested(data + index * size, size, code, <object>PyList_GET_ITEM(values, index), shape, depth + 1):
            return False
    return True


cdef bytes nest(bytes flat, tuple shape):
    """Return a flat list of numbers in JSON as nested lists of this shape, which has no size of 0."""
    cdef int rank = len(shape), level, ended
    if rank == 1:
        return flat
    cdef Py_ssize_t sizes[MAX_RANK]
    cdef Py_ssize_t done[MAX_RANK]
    cdef Py_ssize_t lists = 0, count = 1
    for level in range(rank):
        sizes[level], done[level] = shape[level], 0
        lists += count
        count *= sizes[level]
    cdef const char *position = PyBytes_AS_STRING(flat) + 1
    cdef const char *end = position + PyBytes_GET_SIZE(flat) - 2
    cdef const char *comma
    cdef bytes nested = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(flat) + 2 * (lists - 1))
    cdef char *to = PyBytes_AS_STRING(nested)
    memset(to, c"[", rank)
    to += rank
    while True:
        comma = <const char *>memchr(position, c",", end - position)
        if comma == NULL:
            comma = end
        memcpy(to, position, comma - position)
        to += comma - position
        # The value ends this many lists.
        level, ended = rank - 1, 0
        while level >= 0:
            done[level] += 1
            if done[level] < sizes[level]:
                break
            done[level] = 0
            level -= 1
            ended += 1
        memset(to, c"]", ended)
        to += ended
        if comma == end or level < 0:
            break
        to[0] = c","
        memset(to + 1, c"[", ended)
        to += 1 + ended
        position = comma + 1
    if comma != end or level >= 0:
        raise ValueError(f"a tensor of shape {shape} has another number of values")
    return nested


cdef bint read_nested(
    Http http, HttpRequest request, Head head, Model model, const char *text, Py_ssize_t size
) except -1:
    """Read a body of a dialect with values by name. Return False if the Python code must look at it."""
    cdef const char *end = text + size
    cdef const char *position = text
    cdef const char *start
    cdef const char *stop = NULL
    cdef Shape shapes[MAX_LISTS]
    cdef int count = 0, index
    cdef list values = []
    # The form's key: the model, and the text with the shapes of its lists in their place.
    cdef char key[MAX_KEY]
    cdef Py_ssize_t key_size = PyBytes_GET_SIZE(head.key)
    memcpy(key, PyBytes_AS_STRING(head.key), key_size)
    while True:
        start = find_list(position, end, &stop)
        key_size = add_text(position, end if start == NULL else start, 0, key, key_size)
        if key_size < 0 or start == NULL:
            break
        if count == MAX_LISTS:
            return False
        try:
            found = orjson_loads(PyBytes_FromStringAndSize(start, stop - start))
        except ValueError:
            return False
        if not find_shape(found, &shapes[count]):
            return False
        key_size = add_text(
            <char *>shapes[count].sizes, <char *>(shapes[count].sizes + shapes[count].rank), 1, key, key_size
        )
        values.append(found)
        count += 1
        position = stop
    if key_size < 0 or not count:
        return False
    cdef bytes key_bytes = PyBytes_FromStringAndSize(key, key_size)
    cdef PyObject *entry = PyDict_GetItem(http.forms.entries, key_bytes)
    cdef Form form
    if entry != NULL and (<Form>entry).learned_of is model.validator:
        form = <Form>entry
    else:
        # Not at once: a client whose requests all differ would pay for learning each of them.
        seen = hash(key_bytes)
        if entry == NULL and seen not in http.seen.entries:
            http.seen.put(seen, None)
            return False
        form = learn_nested(http, head, model, text, end)
        http.forms.put(key_bytes, form)
    if form.count != count:
        return False
    cdef list buffers = []
    for index in range(count):
        packed = pack_nested(&form.inputs[index], values[index], &shapes[index])
        if packed is None:
            return False
        buffers.append(packed)
    request.client_id, request.string_bytes, request.is_large = None, 0, False
    request.form, request.buffers = form, buffers
    return True


cdef Form learn_nested(Http http, Head head, Model model, const char *position, const char *end):
    """Return the form of a text, with no inputs if the fast path does not take such requests."""
    cdef list pieces = [], lists = []
    cdef const char *start
    cdef const char *stop = NULL
    while True:
        start = find_list(position, end, &stop)
        if start == NULL:
            break
        pieces.append(PyBytes_FromStringAndSize(position, start - position))
        lists.append(PyBytes_FromStringAndSize(start, stop - start))
        position = stop
    pieces.append(PyBytes_FromStringAndSize(position, end - position))
    route = head.head.route
    found = nested_forms.learn(http.path.engine, http.limits, route, head.head.headers, pieces, lists)
    cdef Form form
    cdef Input *each
    cdef bint usable = found is not None
    if usable:
        for _, datatype, _, _ in found.layout[2]:
            usable = usable and character_of(datatype) not in (0, c"s")
    if not usable:
        form = Form.with_inputs(0)
    else:
        form = Form.with_inputs(len(found.layout[2]))
        for index, (_, datatype, _, length) in enumerate(found.layout[2]):
            each = &form.inputs[index]
            each.which, each.code, each.size = index, character_of(datatype), length
            each.count = length // DATATYPES[datatype].itemsize
        form.kind = ROWS if head.kind == COLUMNS and found.instances else head.kind
        form.instances, form.layout, form.priority = found.instances, found.layout, found.priority
        form.has_names, form.dialect, form.writer = found.has_names, route.dialect, found.writer
    form.learned_of = model.validator
    return form


cdef Texts nested_texts(Http http, Model model, Results group, Py_ssize_t member, Form form):
    """Return the texts around the values of an answer; None if the Python code must write it."""
    if form.has_names and form.kind != PLAIN and len(group.layout[2]) == 1:
        return None
    cdef Texts texts = model.known_texts(form.kind, group, member)
    if texts is not None:
        return texts
    cdef tuple tensors = group.layout_of(member)[2]
    cdef Py_ssize_t size = 0
    for _, datatype, shape, length in tensors:
        if datatype == "BYTES" or DATATYPES[datatype].typestr is None or not length or length != prod(shape) * DATATYPES[datatype].itemsize:
            return None
        if not 0 < len(shape) <= MAX_RANK:
            return None
        size += length
    if size > http.limits.response_bytes or size > http.limits.json_answer_bytes:
        return None
    names = [each[0] for each in tensors]
    if not names or len(set(names)) < len(names):
        return None
    if form.kind == PLAIN:
        found = plain_predict.answer_texts(model.name, model.version, names)
    else:
        found = tfserving_predict.answer_texts(names, form.kind == ROWS)
    if found is None:
        return None
    texts = Texts.__new__(Texts)
    texts.layout, texts.before, texts.end = group.layout, tuple(found[0]), found[1].removesuffix(b"}")
    texts.shapes = tuple([each[2] for each in tensors])
    texts.dtypes = tuple([numpy_dtype(each[1]) for each in tensors])
    return model.remember(form.kind, texts, group.rows_of(member))
