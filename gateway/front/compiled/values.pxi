cdef char character_of(str datatype) except? 0:
    """Return the struct module's character for a datatype, s for strings, or 0 if there is none."""
    code = "s" if datatype == "BYTES" else code_of(datatype)
    return ord(code) if code else 0


cdef object pack(Input *each, const char *text, Py_ssize_t size):
    """Return the bytes of an input with these values in JSON, or None if they must be looked at."""
    try:
        return pack_values(each, orjson_loads(PyBytes_FromStringAndSize(text, size)))
    except (ValueError, OverflowError):
        return None


cdef object pack_values(Input *each, object values):
    cdef object value
    if each.code == c"s":
        if not PyList_CheckExact(values) or PyList_GET_SIZE(values) != each.count:
            return None
        for value in <list>values:
            if not PyUnicode_CheckExact(value):
                return None
        return pack_bytes(values)
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, each.size)
    cdef Py_ssize_t width = each.size // each.count if each.count else 0
    return packed if write_numbers(PyBytes_AS_STRING(packed), width, each.code, values, each.count) else None


cdef bint write_numbers(char *data, Py_ssize_t width, char code, object values, Py_ssize_t count) except -1:
    """Write a list of `count` numbers, of `width` bytes each. `code` is the struct module's character for them.

    Return False, or raise OverflowError, if the values are others, or one does not fit.
    """
    cdef object value
    cdef Py_ssize_t index
    cdef double number
    cdef float single
    if not PyList_CheckExact(values) or PyList_GET_SIZE(values) != count:
        return False
    if code == c"f" or code == c"d" or code == c"e":
        for index in range(count):
            value = <object>PyList_GET_ITEM(values, index)
            if PyFloat_CheckExact(value):
                number = PyFloat_AS_DOUBLE(value)
            elif PyLong_CheckExact(value):
                number = PyLong_AsDouble(value)
            else:
                return False
            if code == c"f":
                single = <float>number
                if isinf(single):
                    return False
                (<float *>data)[index] = single
            elif code == c"d":
                (<double *>data)[index] = number
            else:
                PyFloat_Pack2(number, data + 2 * index, 1)
        return True
    for index in range(count):
        value = <object>PyList_GET_ITEM(values, index)
        # Unsigned datatypes have upper-case letters.
        if not PyLong_CheckExact(value) or not pack_integer(data + index * width, width, code > c"Z", value):
            return False
    return True


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
