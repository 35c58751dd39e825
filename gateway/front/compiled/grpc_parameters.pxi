cdef struct Parameters:
    # 0 for the default, as in Options.
    int priority
    # The time until the deadline; 0 for none.
    double timeout_s
    # Whether there are others, of the client's own.
    bint has_own


cdef bint read_parameters(const char **position, const char *end, Parameters *found) except -1:
    """Read the fields of a request's parameters, which are entries of a map, as read_options does.

    Return False if the Python code must look at them: at those that protocols define, except priority and timeout, and
    at values or encodings that are not the usual ones.
    """
    cdef const char *start = position[0]
    cdef const char *entry
    cdef const char *name
    cdef const char *value
    cdef Py_ssize_t size, name_size, value_size
    cdef uint64_t number = 0
    cdef bint is_integer
    cdef str text
    found.priority, found.timeout_s, found.has_own = 0, 0, False
    while position[0] < end and position[0][0] == 0x22:
        entry = read_field(position, end, 0x22, &size)
        if entry == NULL or position[0] - start > MAX_PARAMETERS:
            return False
        name = read_field(&entry, position[0], 0x0A, &name_size)
        if name == NULL or not is_plain_text(name, name_size):
            return False
        value = read_field(&entry, position[0], 0x12, &value_size)
        if value == NULL or entry != position[0] or not read_value(value, value_size, &is_integer, &number):
            return False
        text = name[:name_size].decode("ascii")
        if text not in DEFINED_PARAMETERS and not text.startswith(DEFINED_PREFIX):
            found.has_own = True  # the client's own, which only models that are not plain learn
            continue
        if not is_integer:
            return False
        if text == "priority":
            found.priority = <int>min(number, <uint64_t>MAX_PRIORITY)
        elif text == "timeout":
            found.timeout_s = number / 1e6
        else:
            return False
    return True


cdef bint read_value(const char *value, Py_ssize_t size, bint *is_integer, uint64_t *number) noexcept:
    """Read an InferParameter that has exactly one field, and is valid. Return False for others, and if it is negative."""
    cdef const char *end = value + size
    cdef const char *text
    cdef Py_ssize_t index
    cdef int shift = 0
    cdef uint8_t tag, byte
    is_integer[0] = False
    if size < 2:
        return False
    tag = value[0]
    if tag == 0x1A:  # string_param
        text = read_field(&value, end, tag, &size)
        return text != NULL and value == end and is_plain_text(text, size)
    if tag == 0x21:  # double_param
        return size == 9
    if tag == 0x08:  # bool_param
        return size == 2 and <uint8_t>value[1] < 2
    if tag != 0x10 and tag != 0x28:  # int64_param, uint64_param
        return False
    is_integer[0], number[0] = True, 0
    for index in range(1, size):
        byte = value[index]
        # Only the last byte has no bit that announces another one.
        if (byte < 0x80) != (index == size - 1) or shift > 56:
            return False
        number[0] |= <uint64_t>(byte & 0x7F) << shift
        shift += 7
    return True
