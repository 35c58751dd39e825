cdef enum Kind:
    # How an answer is written: as v2's JSON, with v2's binary tensors, as v2's message; as the plain dialect's JSON; as
    # TensorFlow Serving's, in columns or in rows.
    JSON
    BINARY
    MESSAGE
    PLAIN
    COLUMNS
    ROWS
    KINDS


@cython.final
cdef class Texts:
    """The texts of answers of one kind with one layout, as rest_response._Texts."""

    cdef object layout
    # For JSON and binary, what comes before the values of each tensor, or instead of them, and what comes after the
    # last, up to where an id would be. For a message, the tags and lengths of all data, and the fields that come first.
    cdef tuple before
    cdef bytes end
    # Whether some tensors are strings.
    cdef bint strings
    # Of the tensors, for JSON; None for strings.
    cdef tuple dtypes
    # Of the tensors, if their values are nested lists; otherwise None.
    cdef tuple shapes


cdef list json_values(Results group, Texts texts, Py_ssize_t member):
    """Return the values of a member, each tensor as JSON."""
    cdef Py_ssize_t tensor, count = len(texts.before)
    cdef list found = []
    if group.count == 1 and group.memo is None:
        for tensor in range(count):
            dtype = texts.dtypes[tensor]
            text = None
            if dtype is not None and 0 < group.units[tensor]:
                size = group.size_of(tensor, 0)
                array = frombuffer(group.received, dtype, size // dtype.itemsize, group.start + group.starts[tensor])
                if size and array.nbytes == size and array.flags.aligned:
                    text = orjson_dumps(array, None, SERIALIZE_NUMPY)
                    if b"null" in text:  # values that are not finite
                        text = None
            found.append(rest_response.values_of_one(group, tensor, 0) if text is None else text)
        return found
    if group.memo is None:
        group.memo = [rest_response.values_of_all(group, tensor) for tensor in range(count)]
    for tensor in range(count):
        text = (<list>group.memo)[tensor]
        found.append(rest_response.values_of_one(group, tensor, member) if text is None else text[member])
    return found


cdef Results joined(object layout, list data, tuple spent, Py_ssize_t rows):
    """Return tensors as the results of a frame with one answer, for whatever writes the answers of plain models.

    data  bytes, in the order of the layout
    """
    cdef Py_ssize_t count = len(data), number, position, size, total
    cdef Results found = Results.__new__(Results)
    # The time in the queue, the rows and the sizes of the tensors come first, as in a frame.
    position = 16 + 8 * (count + (count & 1))
    total = position
    for number in range(count):
        size = PyBytes_GET_SIZE(<object>PyList_GET_ITEM(data, number))
        total += size + (-size & 15)
    cdef bytes received = PyBytes_FromStringAndSize(NULL, total)
    cdef char *begin = PyBytes_AS_STRING(received)
    cdef uint64_t *head = <uint64_t *>begin
    head[0], head[1] = 0, 1
    for number in range(count):
        each = <object>PyList_GET_ITEM(data, number)
        size = PyBytes_GET_SIZE(each)
        head[2 + number] = size
        found.units[number] = -1 if (<tuple>(<tuple>layout)[2])[number][3] < 0 else size
        found.sizes[number] = head + 2 + number
        found.starts[number] = position
        put_bytes(begin + position, each)
        position += size + (-size & 15)
    found.received, found.start, found.end = received, 0, total
    found.queue, found.each_rows = head, head + 1
    found.numbers, found.layout, found.count = (0,), layout, 1
    found.final = found.first_of_batch = True
    found.compute_input_ns, found.compute_infer_ns, found.compute_output_ns = spent
    found.batch_rows = rows
    return found
