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
